"""CartPole-v1 as arrays: as Gymnasium's own vector form, with a seed for each episode and no resets of its own."""

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
        """The parent's arithmetic in the parent's order, Euler's rule for all four at once."""
        if not ((action == 0) | (action == 1)).all():
            raise ValueError(f"CartPole's actions are 0 and 1, not {action}")
        _, _, theta, theta_dot = self.state
        force = np.where(action == 1, self.force_mag, -self.force_mag)
        cos, sin = np.cos(theta), np.sin(theta)
        temp = (force + self.polemass_length * np.square(theta_dot) * sin) / self.total_mass
        theta_acc = (self.gravity * sin - cos * temp) / (
            self.length * (4.0 / 3.0 - self.masspole * np.square(cos) / self.total_mass)
        )
        change = np.empty_like(self.state)
        change[::2] = self.state[1::2]
        change[1] = temp - self.polemass_length * theta_acc * cos / self.total_mass
        change[3] = theta_acc
        self.state = self.state + self.tau * change
        terminated = np.abs(self.state[0]) > self.x_threshold
        terminated |= np.abs(self.state[2]) > self.theta_threshold_radians
        self.steps += 1
        truncated = self.steps >= self.max_episode_steps
        reward = np.ones(self.num_envs, np.float32)
        return self.state.T.astype(np.float32), reward, terminated, truncated, {}
