"""A rule for training on CarRacing: whoever leaves the road is out."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class OffRoadEnd(gymnasium.Wrapper):
    """End the episode (terminated) after `frames` frames in a row without a wheel on the track.

    CarRacing pays nothing for a tile that was passed by, and ends early only where all were touched: a policy that
    discounts the future gives up a corner's tiles for speed, and never ends the lap. Here a corner cut costs all that
    would have followed. Rewards stay the stock ones. For training alone: scores are taken without the rule.

    share: of the episodes, drawn by their seeds, to which the rule applies; in the others a policy learns the way back.
    """

    def __init__(self, env: gymnasium.Env, frames: int, share: float = 1.0):
        if frames < 1:
            raise ValueError(f"off_road_frames must be at least 1, not {frames}")
        if not 0 <= share <= 1:
            raise ValueError(f"off_road_share must be from 0 to 1, not {share}")
        super().__init__(env)
        self.frames, self.share = frames, share
        self.away, self.applies = 0, True

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        found = self.env.reset(**options)
        self.away = 0
        # a stream of its own: the environment's makes the track
        self.applies = bool(np.random.default_rng([self.unwrapped.np_random_seed, 3]).random() < self.share)
        return found

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        car: Any = self.unwrapped.car  # pyright: ignore[reportAttributeAccessIssue]
        self.away = 0 if any(wheel.tiles for wheel in car.wheels) else self.away + 1
        out = self.applies and self.away >= self.frames
        return observation, reward, terminated or out, truncated, info
