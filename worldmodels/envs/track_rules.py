"""Rules for training on CarRacing, which make what a lost lap costs felt where it is lost. Scores are taken without."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np


def _on_road(env: gymnasium.Env) -> bool:
    car: Any = env.unwrapped.car  # pyright: ignore[reportAttributeAccessIssue]
    return any(wheel.tiles for wheel in car.wheels)


def _stream(env: gymnasium.Env, number: int) -> np.random.Generator:
    """Random numbers of an episode's own, since the environment's make the track."""
    return np.random.default_rng([env.unwrapped.np_random_seed, number])  # pyright: ignore[reportArgumentType]


class OffRoadStart(gymnasium.Wrapper):
    """Begin `share` of the episodes, drawn by their seeds, somewhere on the meadow, as after a slide.

    A policy that hardly ever leaves the road never learns the way back, and the one slide of twenty laps then costs
    the whole lap. Here the car is up to REACH units beside some tile, turned anyhow, with a speed of up to SPEED. Who
    has not come to the road after PATIENCE frames is out (terminated). The tile is info["tile"] of `reset`.

    home: who has come to the road is cut off (truncated) after so many more frames, so that many may begin there and
    most of what is seen still is a lap; None: drives on, and finds out only then which way round the lap is left.
    """

    REACH = (8.0, 50.0)  # world units from the middle of the road, which is 6.7 to each side
    SPEED = 60.0  # world units a second; on the road 50 to 90 are usual
    PATIENCE = 200

    def __init__(self, env: gymnasium.Env, share: float, home: int | None = None):
        if not 0 <= share <= 1:
            raise ValueError(f"off_road_start must be from 0 to 1, not {share}")
        if home is not None and home < 1:
            raise ValueError(f"off_road_home must be at least 1, not {home}")
        super().__init__(env)
        self.share, self.home = share, home
        self.lost: int | None = None  # frames since the start; None: on the road, or as stock
        self.back: int | None = None  # frames since the road was found, where it was lost

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        self.lost = self.back = None
        random = _stream(self, 4)
        if random.random() < self.share:
            self.lost = 0
            car_racing: Any = self.unwrapped
            tile = int(random.integers(len(car_racing.track)))
            _, beta, x, y = car_racing.track[tile]
            side = random.choice([-1.0, 1.0]) * random.uniform(*self.REACH)
            _place(
                car_racing.car,
                (x + side * math.cos(beta), y + side * math.sin(beta)),
                random.uniform(-math.pi, math.pi),
                random.uniform(0.0, self.SPEED),
            )
            car_racing.t = 1.0  # the camera has come down
            observation = car_racing.step(None)[0]
            info = {**info, "tile": tile}
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self.back is not None:
            self.back += 1
            truncated = truncated or self.back == self.home
        elif self.lost is not None:
            self.lost, self.back = (None, 0) if _on_road(self) else (self.lost + 1, None)
            terminated = terminated or self.lost == self.PATIENCE
        return observation, reward, terminated, truncated, info


def _place(car: Any, position: tuple[float, float], angle: float, speed: float) -> None:
    """Move the whole car, its wheels straight ahead and rolling."""
    old, turn = tuple(car.hull.position), angle - car.hull.angle
    cos, sin = math.cos(turn), math.sin(turn)
    velocity = (-speed * math.sin(angle), speed * math.cos(angle))
    for body in (car.hull, *car.wheels):
        x, y = body.position[0] - old[0], body.position[1] - old[1]
        body.position = (position[0] + x * cos - y * sin, position[1] + x * sin + y * cos)
        body.angle += turn
        body.linearVelocity = velocity
    for wheel in car.wheels:
        wheel.omega = speed / wheel.wheel_rad


class OffRoadEnd(gymnasium.Wrapper):
    """End the episode (terminated) after `frames` frames in a row without a wheel on the track.

    CarRacing pays nothing for a tile that was passed by, and ends early only where all were touched: a policy that
    discounts the future gives up a corner's tiles for speed, and never ends the lap. Here a corner cut costs all that
    would have followed. Rewards stay the stock ones.

    share: of the episodes, drawn by their seeds, to which the rule applies; in the others a policy learns the way back.
    Nobody has left the road who has not been there, see `OffRoadStart`.
    """

    def __init__(self, env: gymnasium.Env, frames: int, share: float = 1.0):
        if frames < 1:
            raise ValueError(f"off_road_frames must be at least 1, not {frames}")
        if not 0 <= share <= 1:
            raise ValueError(f"off_road_share must be from 0 to 1, not {share}")
        super().__init__(env)
        self.frames, self.share = frames, share
        self.away, self.arrived, self.applies = 0, False, True

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        found = self.env.reset(**options)
        self.away, self.arrived = 0, False
        self.applies = bool(_stream(self, 3).random() < self.share)
        return found

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        on_road = _on_road(self)
        self.arrived = self.arrived or on_road
        self.away = 0 if on_road or not self.arrived else self.away + 1
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


class OneLap(gymnasium.Wrapper):
    """Cut the episode off (truncated) where the car comes round to where it began, most tiles touched.

    Stock CarRacing lets whoever has missed one drive on over tiles that pay no more, and no frame shows why. After an
    `OffRoadStart` the lap begins at the tile that it names.
    """

    MOST = 0.8  # of all tiles
    LINE = 5  # tiles: a slide seldom passes all of them by

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        self.begun = info.get("tile", 0)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated or (self._came_round() and not terminated), info

    def _came_round(self) -> bool:
        car_racing: Any = self.unwrapped
        tiles = len(car_racing.road)
        if car_racing.tile_visited_count < self.MOST * tiles:
            return False
        touched = [tile.idx for wheel in car_racing.car.wheels for tile in wheel.tiles]
        return any((idx - self.begun) % tiles < self.LINE for idx in touched)


class MissedTilePrice(gymnasium.Wrapper):
    """Charge `price` for each tile that the car has passed by without touching it.

    A lap ends only when every tile was touched: one tile missed costs what the clock takes until the end, some 15
    points, hundreds of frames later and so next to nothing to a policy that discounts the future. A tile counts as
    missed once the foremost wheel is more than BEHIND tiles ahead of it; coming back for it brings nothing back. After
    an `OffRoadStart` the tile that it names is the first one.
    """

    BEHIND = 8  # tiles, 28 units: more than five lengths of the car

    def __init__(self, env: gymnasium.Env, price: float):
        if price < 0:
            raise ValueError(f"missed_tile_price must be at least 0, not {price}")
        super().__init__(env)
        self.price = price
        self.passed = 0  # all tiles up to here were touched, or charged

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        self.passed = info.get("tile", 0)
        return observation, info

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
