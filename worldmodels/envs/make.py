"""Vectors of real environments, and the preprocessing of their frames."""

from __future__ import annotations

import os
import platform
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from ..errors import UserError
from .action_repeat import ActionRepeat
from .cart_pole import CartPoleVector
from .workers import WorkerVectorEnv, default_workers
from .wrappers import (
    Blackout,
    ChosenActions,
    CropResize,
    FrameDifference,
    NarrowActions,
    ScreenAlone,
    StackFrames,
)

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
    count = default_workers()
    return f"{model}, {count} core{'s' if count > 1 else ''}{gpu}"
