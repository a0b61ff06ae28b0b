"""A rule for training on CarRacing: whoever leaves the road is out."""

from __future__ import annotations

from typing import Any

import gymnasium


class OffRoadEnd(gymnasium.Wrapper):
    """End the episode (terminated) after `frames` frames in a row without a wheel on the track.

    CarRacing pays nothing for a tile that was passed by, and ends early only where all were touched: a policy that
    discounts the future gives up a corner's tiles for speed, and ends short of the lap. Here a corner cut costs all
    that would have followed. Rewards stay the stock ones. For training alone: scores are taken without the rule.
    """

    def __init__(self, env: gymnasium.Env, frames: int):
        if frames < 1:
            raise ValueError(f"off_road_frames must be at least 1, not {frames}")
        super().__init__(env)
        self.frames = frames
        self.away = 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.away = 0
        return self.env.reset(**options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        car: Any = self.unwrapped.car  # pyright: ignore[reportAttributeAccessIssue]
        self.away = 0 if any(wheel.tiles for wheel in car.wheels) else self.away + 1
        return observation, reward, terminated or self.away >= self.frames, truncated, info
