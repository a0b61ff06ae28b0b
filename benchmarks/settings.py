"""CarRacing as several contests meet it."""

from worldmodels.envs.make import EnvSettings

FAST = EnvSettings("worldmodels/CarRacing-v3", {"size": 64})
STOCK = EnvSettings("CarRacing-v3", {}, crop_rows=84, frame_size=64)
