"""The fast CarRacing beside the stock one, step by step: make fidelity

Rewards, ends and physics must be identical to the bit; pixels are compared in units of 1/255.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import cv2
import gymnasium
import numpy as np

import worldmodels  # noqa: F401  registers worldmodels/CarRacing-v3
from worldmodels.evaluation.pictures import grid, write_png

UPPER, WHOLE = 2.0, 3.0  # the most that mean absolute errors may be, in 1/255


class Fidelity(NamedTuple):
    identical: bool
    frames: int  # compared
    upper: float  # mean absolute error over rows 0–83, in 1/255
    whole: float  # over the whole frame
    worst: float  # of the worst frame, rows 0–83
    small: float  # of the 64×64 frame beside the stock frame cropped and shrunk
    steps: int


def physics(env: gymnasium.Env) -> list[Any]:
    """All that moves: the hull, the wheels, the tiles, the score."""
    unwrapped: Any = env.unwrapped
    bodies = [unwrapped.car.hull, *unwrapped.car.wheels]
    state: list[Any] = [
        (tuple(body.position), body.angle, tuple(body.linearVelocity), body.angularVelocity) for body in bodies
    ]
    state += [(wheel.omega, wheel.phase, wheel.gas, wheel.brake) for wheel in unwrapped.car.wheels]
    state += [unwrapped.reward, unwrapped.tile_visited_count, [tuple(tile.color) for tile in unwrapped.road]]
    return state


def compare(tracks: int, steps: int, draw_every: int, pictures: Path | None = None) -> Fidelity:
    """Drive stock and fast environments alike, with smooth random actions; draw at reset, in the zoom and after."""
    stock = gymnasium.make("CarRacing-v3", disable_env_checker=True)
    fast, small = (gymnasium.make("worldmodels/CarRacing-v3", size=size, disable_env_checker=True) for size in (96, 64))
    identical, upper, whole, smaller, shown, done = True, [], [], [], [], 0
    for track in range(tracks):
        wanted = stock.reset(seed=track)[0]
        for env in (fast, small):
            env.reset(seed=track)
        random = np.random.default_rng(track)
        action = np.zeros(3)
        for step in range(steps):
            action = 0.9 * action + 0.1 * random.uniform([-3, -1, -1.5], [3, 3, 1])
            chosen = np.clip(action, [-1, 0, 0], [1, 1, 1]).astype(np.float32)
            draw = step % draw_every == 0 or step in (5, 15, 30, 49, 51)
            stock.unwrapped.__dict__.pop("_render", None)
            if not draw:  # the stock class draws in each step: hand it its last frame
                stock.unwrapped._render = lambda mode, last=wanted: last  # pyright: ignore[reportAttributeAccessIssue]
            wanted, *outcome = stock.step(chosen)
            found, *ours = fast.step(chosen)
            tiny, *_ = small.step(chosen)
            done += 1
            identical &= outcome[:3] == ours[:3]
            if draw:
                identical &= physics(stock) == physics(fast) == physics(small)
                error = np.abs(found.astype(int) - wanted)
                upper.append(error[:84].mean())
                whole.append(error.mean())
                cropped = cv2.resize(wanted[:84], (64, 64), interpolation=cv2.INTER_AREA)
                smaller.append(np.abs(tiny.astype(int) - cropped).mean())
                if track == 0 and len(shown) < 8 and step in (0, 15, 30, 60, 120, 240, 480, 720):
                    shown.append((wanted, found, error.astype(np.uint8)))
            if outcome[1] or outcome[2]:
                break
    if pictures is not None:
        columns = list(zip(*shown, strict=True))
        brighter = [np.minimum(frame.astype(int) * 4, 255).astype(np.uint8) for frame in columns[2]]
        rows = [("stock", columns[0]), ("fast", columns[1]), ("difference, four times as bright", brighter)]
        write_png(pictures, grid(rows))
    mean = [float(np.mean(values)) for values in (upper, whole, smaller)]
    return Fidelity(identical, len(upper), mean[0], mean[1], float(max(upper)), mean[2], done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--draw-every", type=int, default=10)
    parser.add_argument("--pictures", type=Path, default=Path("docs/media/car_racing.png"))
    options = parser.parse_args()
    found = compare(options.tracks, options.steps, options.draw_every, options.pictures)
    print(f"{options.tracks} tracks, {found.steps} steps, {found.frames} frames compared")
    print(f"rewards, ends and physics identical: {found.identical}")
    print(f"mean absolute error in 1/255: rows 0–83 {found.upper:.2f} (worst frame {found.worst:.2f}), ", end="")
    print(f"whole frame {found.whole:.2f}, 64×64 {found.small:.2f}")
    if not found.identical or found.upper > UPPER or found.whole > WHOLE:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
