"""CartPole-v1 as arrays: Gymnasium's own vector form, with a seed for each episode and no resets of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode


class CartPoleVector(CartPoleVectorEnv):
    """B cart-poles that move as B environments CartPole-v1 do, to the bit, in one go (`AutoresetMode.DISABLED`).

    `reset` takes `seed` as a list and `options={"reset_mask": bool [B]}`, as Gymnasium's vectors do.
    """

    def __init__(self, num_envs: int):
        super().__init__(num_envs)
        self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.state: Any = np.zeros((4, num_envs))
        self.generators = [seeding.np_random()[0] for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        seeds = (
            seed if isinstance(seed, Sequence) else [None if seed is None else seed + n for n in range(self.num_envs)]
        )
        for slot in np.flatnonzero(mask).tolist():
            if seeds[slot] is not None:
                self.generators[slot] = seeding.np_random(seeds[slot])[0]
            self.state[:, slot] = self.generators[slot].uniform(-0.05, 0.05, 4)
        self.steps[mask] = 0
        return self.state.T.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        self.prev_done[:] = False  # what the parent resets by itself
        return super().step(action)
