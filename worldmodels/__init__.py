"""World models: see (V), remember (M), drive (C), and learn to drive inside the dream."""

from gymnasium.envs.registration import register

__version__ = "0.1.0"

# gymnasium.make_vec("worldmodels/Dream-v0", num_envs=8, memory="runs/…/best.ckpt")
register(id="worldmodels/Dream-v0", vector_entry_point="worldmodels.worlds.dream_env:DreamVectorEnv")

# stock CarRacing-v3 but for its drawing: gymnasium.make("worldmodels/CarRacing-v3", size=64, action_repeat=4)
register(id="worldmodels/CarRacing-v3", entry_point="worldmodels.envs.car_racing:make")
