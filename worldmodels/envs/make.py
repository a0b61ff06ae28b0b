"""Vectors of real environments, and the preprocessing of their frames."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces

from ..errors import UserError
from .action_repeat import ActionRepeat
from .cart_pole import CartPoleVector
from .workers import WorkerVectorEnv, default_workers

# Box2D environments draw with SDL; without a display it must be told so before it starts.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")


class EnvSettings(NamedTuple):
    """All that decides what an environment shows and how it moves; it travels with every checkpoint."""

    id: str
    kwargs: dict[str, Any]
    action_repeat: int = 1
    action_low: list[float] | None = None  # act within a part of the action space
    action_high: list[float] | None = None
    actions: list[int] | None = None  # play only these of the discrete actions
    crop_rows: int | list[int] | None = None  # keep the rows above this one, or [first, end) (CarRacing: 84, no bar)
    frame_size: int | None = None  # side of the square frame after cropping; None: observations pass unchanged
    difference: bool = False  # show what changed since the frame before, half of it around 128
    stack: int = 1  # frames shown at once, the newest last, along the channels
    blackout: list[int] | None = None  # [shown, hidden]: so many frames as they are, then so many black, and so on

    def describe(self) -> dict[str, Any]:
        """What tells environments apart: later fields where they are set, so that older descriptions still equal."""
        found = self._asdict()
        return {name: found[name] for name in found if name not in LATER or found[name] != self._field_defaults[name]}


LATER = ("actions", "difference", "blackout")  # fields that stores and checkpoints of before know nothing of


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


def make_env(settings: EnvSettings) -> gymnasium.Env:
    """One environment with its wrappers."""
    if settings.action_repeat < 1:
        raise UserError(f"env.action_repeat must be at least 1, not {settings.action_repeat}")
    kwargs, is_doom = settings.kwargs, settings.id.startswith("Vizdoom")
    if settings.id.startswith("ALE/"):
        _register_atari()
    if is_doom:
        _register_doom()
        kwargs = {**kwargs, "frame_skip": settings.action_repeat}  # the engine repeats, and draws the last frame alone
    try:
        env = gymnasium.make(settings.id, disable_env_checker=True, **kwargs)
    except (gymnasium.error.Error, ModuleNotFoundError, TypeError, ValueError) as error:
        raise UserError(
            f"cannot make the environment {settings.id!r} ({str(error).splitlines()[0]}); "
            "see the known ones with: python -c 'import gymnasium; gymnasium.pprint_registry()'"
        ) from error
    if is_doom:
        env = ScreenAlone(env)
    elif settings.action_repeat > 1:
        env = ActionRepeat(env, settings.action_repeat)
    if settings.action_low is not None or settings.action_high is not None:
        env = NarrowActions(env, settings.action_low, settings.action_high)
    if settings.actions is not None:
        env = ChosenActions(env, settings.actions)
    if settings.frame_size is not None:
        env = CropResize(env, settings.crop_rows, settings.frame_size)
    if settings.difference:
        env = FrameDifference(env)
    if settings.blackout is not None:
        if len(settings.blackout) != 2:
            raise UserError(f"env.blackout={settings.blackout} must be two numbers: [shown, hidden]")
        env = Blackout(env, *settings.blackout)
    if settings.stack < 1:
        raise UserError(f"env.stack must be at least 1, not {settings.stack}")
    return env if settings.stack == 1 else StackFrames(env, settings.stack)


def _register_atari() -> None:
    try:
        import ale_py
    except ModuleNotFoundError as error:
        raise UserError("Atari games need ale-py; run: pip install -c constraints.txt -e '.[atari]'") from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    gymnasium.register_envs(ale_py)


def _register_doom() -> None:
    try:
        import vizdoom.gymnasium_wrapper  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError("Doom needs vizdoom; run: pip install -c constraints.txt -e '.[doom]'") from error


def make_envs(
    settings: EnvSettings, num_envs: int, asynchronous: bool = True, timeout: float = 60.0
) -> gymnasium.vector.VectorEnv:
    """A vector of environments that never resets by itself: ended ones wait for `reset` with a `reset_mask`.

    So every episode begins with a seed of our choosing, and its true last observation is the one returned.

    asynchronous: spread over a worker process for each core, see `workers`; else all in this process.
    timeout: seconds after which a silent worker counts as hung.
    Raises UserError for an unknown environment.
    """
    if settings == EnvSettings("CartPole-v1", {}):
        return CartPoleVector(num_envs)  # eight of them step faster than one process can be told to
    make_env(settings).close()  # fail here with one line rather than in a worker
    functions = [partial(make_env, settings)] * num_envs
    if asynchronous:
        return WorkerVectorEnv(functions, default_workers(), timeout)
    return gymnasium.vector.SyncVectorEnv(functions, autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED)


@contextmanager
def closing(envs: gymnasium.vector.VectorEnv) -> Iterator[gymnasium.vector.VectorEnv]:
    """Close the environments however the block ends; worker processes are not waited for."""
    try:
        yield envs
    finally:
        envs.close(**({"terminate": True} if isinstance(envs, WorkerVectorEnv) else {}))


def reset_some(envs: gymnasium.vector.VectorEnv, seeds: dict[int, int]) -> np.ndarray:
    """Reset the environments that `seeds` names, each with its seed; returns all observations [B, …]."""
    mask = np.zeros(envs.num_envs, dtype=np.bool_)
    mask[list(seeds)] = True
    everyone = [seeds.get(index) for index in range(envs.num_envs)]
    observation, _ = envs.reset(seed=everyone, options={"reset_mask": mask})  # pyright: ignore[reportArgumentType]
    return observation


def versions() -> dict[str, str]:
    """Versions of what decides an environment's numbers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("gymnasium", "box2d", "pygame-ce", "opencv-python-headless", "numpy", "torch", "lightning"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The model of the CPU and of the GPU, and how many cores this process may use: what decides its speed."""
    import torch  # here: worker processes need none

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(": ", 1)[1] if lines else model
    gpu = f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {default_workers()} cores{gpu}"
