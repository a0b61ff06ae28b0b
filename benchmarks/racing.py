"""Row 1: CarRacing, frames delivered."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from harness import Contest, rate
from inputs import FAST, STOCK

import worldmodels  # noqa: F401  registers worldmodels/CarRacing-v3
from worldmodels.envs.make import make_env, make_envs, reset_some
from worldmodels.envs.workers import default_workers


def play_ours(envs: gymnasium.vector.VectorEnv, random: np.random.Generator) -> int:
    actions = random.uniform([-1, 0, 0], [1, 1, 0.2], (envs.num_envs, 3)).astype(np.float32)
    _, _, terminated, truncated, _ = envs.step(actions)
    ended = np.flatnonzero(terminated | truncated)
    if len(ended):
        reset_some(envs, {int(slot): int(random.integers(2**30)) for slot in ended})
    return envs.num_envs


def play_theirs(envs: Any, count: int, random: np.random.Generator) -> int:
    envs.step(random.uniform([-1, 0, 0], [1, 1, 0.2], (count, 3)).astype(np.float32))
    return count


def physics_limit() -> tuple[str, float]:
    """Stock physics without drawing, one process, times the cores."""
    env = gymnasium.make("CarRacing-v3", disable_env_checker=True)
    env.reset(seed=0)
    frame = np.zeros((96, 96, 3), np.uint8)
    env.unwrapped._render = lambda mode: frame  # pyright: ignore[reportAttributeAccessIssue]
    action = np.array([0.1, 0.3, 0.0], np.float32)

    def step() -> int:
        if env.step(action)[2]:
            env.reset()
        return 1

    return "physics alone", rate(step, 2.0) * default_workers()


def car_racing(peer: str, target: float) -> Contest:
    random = np.random.default_rng(0)
    ours = make_envs(FAST, 32)
    ours.reset(seed=0)
    theirs: Any
    count = 8 if peer == "envpool" else 2
    if peer == "envpool":
        import envpool

        theirs = envpool.make_gymnasium("CarRacing-v3", num_envs=count, num_threads=2)
        theirs.reset()
    else:
        theirs = gymnasium.vector.AsyncVectorEnv([partial(make_env, STOCK)] * count, shared_memory=True)
        theirs.reset(seed=0)
    for _ in range(60):  # past the zoom of the first second
        play_ours(ours, random)
        play_theirs(theirs, count, random)
    return Contest(
        "1",
        "CarRacing, 64×64 frames delivered, resets included",
        "frames",
        peer,
        lambda: rate(lambda: play_ours(ours, random), 4.0),
        lambda: rate(lambda: play_theirs(theirs, count, random), 4.0),
        target,
        physics_limit,
        lambda: (ours.close(), theirs.close())[0],
    )
