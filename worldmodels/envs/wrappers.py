"""Wrappers that change what is shown of an environment, and which of its actions are played."""

from __future__ import annotations

from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces

from ..errors import UserError


class NarrowActions(gymnasium.Wrapper):
    """The same environment, its bounded actions announced within a smaller box: what acts or explores stays there."""

    def __init__(self, env: gymnasium.Env, low: list[float] | None, high: list[float] | None):
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, spaces.Box):
            raise UserError(f"action_low and action_high need continuous actions, not {space}; set both to null")
        lower, upper = (
            own.astype(np.float32) if given is None else np.array(given, np.float32)
            for own, given in ((space.low, low), (space.high, high))
        )
        if lower.shape != space.shape or upper.shape != space.shape:
            raise UserError(f"env.action_low and env.action_high must have {space.shape[0]} values, as {space}")
        if (lower < space.low).any() or (upper > space.high).any() or (lower >= upper).any():
            raise UserError(f"env.action_low and env.action_high must span a box within {space}")
        self.action_space = spaces.Box(lower, upper)


class ChosenActions(gymnasium.ActionWrapper):
    """The same environment with `actions` alone of its discrete ones, numbered from 0."""

    def __init__(self, env: gymnasium.Env, actions: list[int]):
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, spaces.Discrete):
            raise UserError(f"env.actions needs discrete actions, not {space}; set env.actions=null")
        if not actions or len(set(actions)) < len(actions) or not all(space.contains(action) for action in actions):
            raise UserError(f"env.actions={actions} must name some of the actions 0 to {space.n - 1}, none twice")
        self.chosen = actions
        self.action_space = spaces.Discrete(len(actions))

    def action(self, action: Any) -> int:
        return self.chosen[int(action)]


class ScreenAlone(gymnasium.ObservationWrapper):
    """Of a Dict observation the frame "screen"."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        space: Any = env.observation_space
        self.observation_space = space["screen"]

    def observation(self, observation: Any) -> np.ndarray:
        return observation["screen"]


class CropResize(gymnasium.ObservationWrapper):
    """Keep some rows of a frame, see `EnvSettings.crop_rows`, and shrink them to a square, area-averaged."""

    def __init__(self, env: gymnasium.Env, crop_rows: int | list[int] | None, size: int):
        super().__init__(env)
        shape = tuple(env.observation_space.shape or ())
        if len(shape) not in (2, 3):
            raise UserError(f"frame_size={size} needs an environment with frames; set env.frame_size=null")
        self.rows = slice(*crop_rows) if isinstance(crop_rows, list) else slice(crop_rows)
        if not len(range(*self.rows.indices(shape[0]))):
            raise UserError(f"env.crop_rows={crop_rows} leaves nothing of frames with {shape[0]} rows")
        self.shape = (size, size, *shape[2:]) if len(shape) == 3 else (size, size, 1)  # grey frames get their channel
        self.observation_space = spaces.Box(0, 255, self.shape, np.uint8)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        small = cv2.resize(observation[self.rows], self.shape[:2], interpolation=cv2.INTER_AREA)
        return small.reshape(self.shape)


class FrameDifference(gymnasium.Wrapper):
    """What changed since the frame before, u8: 128 + half the difference; an episode begins with none."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        if len(env.observation_space.shape or ()) != 3:
            raise UserError("env.difference needs an environment with frames; set env.difference=false")
        self.before = np.zeros(0, np.int16)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        frame, info = self.env.reset(**options)
        self.before = frame.astype(np.int16)
        return np.full_like(frame, 128), info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        frame, reward, terminated, truncated, info = self.env.step(action)
        now = frame.astype(np.int16)
        changed = (128 + (now - self.before) // 2).astype(np.uint8)  # 0 to 255: half of ±255, rounded down
        self.before = now
        return changed, reward, terminated, truncated, info


class Blackout(gymnasium.Wrapper):
    """Frames go black for `hidden` steps after every `shown` ones: what they would show must be remembered."""

    def __init__(self, env: gymnasium.Env, shown: int, hidden: int):
        super().__init__(env)
        if len(env.observation_space.shape or ()) != 3:
            raise UserError("env.blackout needs an environment with frames; set env.blackout=null")
        if shown < 1 or hidden < 1:
            raise UserError(f"env.blackout=[{shown},{hidden}] must have at least 1 frame shown and 1 hidden")
        self.shown, self.cycle, self.time = shown, shown + hidden, 0

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.time = 0
        return self.env.reset(**options)

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        frame, *rest = self.env.step(action)
        self.time += 1
        return (frame if self.time % self.cycle < self.shown else np.zeros_like(frame), *rest)  # pyright: ignore[reportReturnType]


class StackFrames(gymnasium.Wrapper):
    """The last `count` frames [H, W, C] along the channels, newest last; an episode begins with copies of its first."""

    def __init__(self, env: gymnasium.Env, count: int):
        super().__init__(env)
        shape = env.observation_space.shape or ()
        if len(shape) != 3:
            raise UserError(f"env.stack={count} needs an environment with frames; set env.stack=1")
        self.channels = shape[2]
        self.frames = np.zeros((*shape[:2], count * shape[2]), np.uint8)
        self.observation_space = spaces.Box(0, 255, self.frames.shape, np.uint8)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        frame, info = self.env.reset(**options)
        self.frames = np.tile(frame, self.frames.shape[2] // self.channels)
        return self.frames, info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        frame, reward, terminated, truncated, info = self.env.step(action)
        # anew each time: what was handed out before must stay as it was
        self.frames = np.concatenate([self.frames[..., self.channels :], frame], -1)
        return self.frames, reward, terminated, truncated, info
