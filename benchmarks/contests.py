"""The contests of `make bench`: what we do, beside what a user would pick instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

from dreaming import dream
from harness import Contest
from learners import a2c, dqn
from racing import car_racing
from remembering import lightning_overhead, memory
from seeing import lean_vision, vision
from windows import sampling

warnings.filterwarnings("ignore")

CONTESTS: dict[str, Callable[[], Contest]] = {
    "1a": partial(car_racing, "AsyncVectorEnv, stock", 20),
    "1b": partial(car_racing, "envpool", 3),
    "2a": vision,
    "2b": lean_vision,
    "3": memory,
    "4a": partial(dream, 256, 512, 2.5),
    "4b": partial(dream, 512, 512, 2.5),
    "4c": partial(dream, 256, 1, 40),
    "5a": partial(sampling, "latents", "torchrl", 6),
    "5b": partial(sampling, "latents", "index arithmetic", 1.2),
    "5c": partial(sampling, "frames", "torchrl", 6),
    "5d": partial(sampling, "frames", "index arithmetic", 1.2),
    "6a": partial(a2c, "CartPole-v1", 3),
    "6b": partial(a2c, "CarRacing-v3", 8),
    "6c": partial(a2c, "LunarLander-v3", 3),
    "6d": partial(dqn, "CartPole-v1", 3),
    "6e": partial(dqn, "LunarLander-v3", 3),
    "7": lightning_overhead,
}
