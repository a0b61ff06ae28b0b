"""Rules for training on CarRacing, which make what a lost lap costs felt where it is lost. Scores are taken without."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class OffRoadEnd(gymnasium.Wrapper):
    """End the episode (terminated) after `frames` frames in a row without a wheel on the track.

    CarRacing pays nothing for a tile that was passed by, and ends early only where all were touched: a policy that
    discounts the future gives up a corner's tiles for speed, and never ends the lap. Here a corner cut costs all that
    would have followed. Rewards stay the stock ones.

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


class LapTruncates(gymnasium.Wrapper):
    """A finished lap cuts the episode off (truncated), where stock CarRacing ends it (terminated).

    To a critic that does not see how much of the lap is left an end costs all that it expected to follow, hundreds of
    points, as if to finish were a mistake. Cut off, the episode goes on for it, as where the clock ends it.
    """

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        finished = terminated and info.get("lap_finished", False)
        return observation, reward, terminated and not finished, truncated or finished, info


class MissedTilePrice(gymnasium.Wrapper):
    """Charge `price` for each tile that the car has passed by without touching it.

    A lap ends only when every tile was touched: one tile missed costs what the clock takes until the end, some 15
    points, hundreds of frames later and so next to nothing to a policy that discounts the future. A tile counts as
    missed once the foremost wheel is more than BEHIND tiles ahead of it; coming back for it brings nothing back.
    """

    BEHIND = 8  # tiles: some two lengths of the car

    def __init__(self, env: gymnasium.Env, price: float):
        if price < 0:
            raise ValueError(f"missed_tile_price must be at least 0, not {price}")
        super().__init__(env)
        self.price = price
        self.passed = 0  # all tiles up to here were touched, or charged

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        found = self.env.reset(**options)
        self.passed = 0
        return found

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward) - self.price * self._missed(), terminated, truncated, info

    def _missed(self) -> int:
        """How many tiles were passed by since this was last asked."""
        car_racing: Any = self.unwrapped
        road = car_racing.road
        # ahead of `passed`, on a closed track; what lies more than half a lap ahead is behind
        ahead = [(tile.idx - self.passed) % len(road) for wheel in car_racing.car.wheels for tile in wheel.tiles]
        front = max((tiles for tiles in ahead if tiles < len(road) // 2), default=0)
        missed = 0
        for _ in range(front - self.BEHIND):
            missed += not road[self.passed].road_visited
            self.passed = (self.passed + 1) % len(road)
        return missed
