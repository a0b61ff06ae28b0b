"""A vector of environments in worker processes, several in each, over shared memory."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from ..errors import UserError

STEP, RESET, CLOSE, DONE = b"s", b"r", b"c", b"d"
Field = tuple[Any, tuple[int, ...], np.dtype]


class WorkerError(UserError):
    """A worker died, hung or raised; the text names it and its environments."""


class WorkerVectorEnv(gymnasium.vector.VectorEnv):
    """B environments spread over W processes; it never resets by itself (`AutoresetMode.DISABLED`).

    Observations, actions, rewards and ends lie in shared memory: a step costs one short message each way to each
    worker, whatever the number of environments. `reset` takes `seed` as a list and `options={"reset_mask": bool [B]}`,
    as Gymnasium's own vectors do; what `step` and `reset` return are copies.

    timeout: seconds that a worker may take for one step or reset. One that dies or takes longer raises WorkerError and
    the vector is closed: an unfinished episode is never handed out. Infos of the environments are not passed on.
    """

    def __init__(self, functions: Sequence[Callable[[], gymnasium.Env]], workers: int, timeout: float = 60.0):
        probe = functions[0]()
        self.single_observation_space, self.single_action_space = probe.observation_space, probe.action_space
        name = probe.spec.id if probe.spec is not None else type(probe.unwrapped).__name__
        probe.close()
        if not isinstance(self.single_observation_space, spaces.Box) or not isinstance(
            self.single_action_space, (spaces.Box, spaces.Discrete)
        ):
            raise UserError(f"{name} needs Box observations and Box or Discrete actions; use env.asynchronous=false")
        self.num_envs = len(functions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED, "render_modes": []}
        self.render_mode = None
        self.timeout = timeout

        # fork would copy the threads' locks of torch and OpenMP; forkserver starts clean, and imports once for all
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["worldmodels.envs.make", "worldmodels.envs.car_racing"])
        count = self.num_envs
        fields = {
            "observation": (self.single_observation_space.shape, self.single_observation_space.dtype),
            "action": (self.single_action_space.shape, self.single_action_space.dtype),
            "reward": ((), np.float64),
            "terminated": ((), np.bool_),
            "truncated": ((), np.bool_),
            "seed": ((), np.int64),
            "reset": ((), np.bool_),
        }
        shared: dict[str, Field] = {}
        for field, (shape, dtype) in fields.items():
            kind, full = np.dtype(dtype), (count, *(shape or ()))
            shared[field] = (context.RawArray("b", int(np.prod(full)) * kind.itemsize), full, kind)
        self._arrays = _views(shared)
        self._pipes: list[Any] = []
        self._processes: list[Any] = []
        self._names: list[str] = []
        for number, slots in enumerate(np.array_split(np.arange(count), min(workers, count))):
            ours, theirs = context.Pipe()
            first, last = int(slots[0]), int(slots[-1])
            arguments = (list(functions[first : last + 1]), first, theirs, shared)
            process = context.Process(target=_work, args=arguments, daemon=True, name=f"worker {number}")
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
            self._names.append(f"worker {number} (pid {process.pid}; {name}, environments {first} to {last})")
        self._await("start")

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        options = dict(options or {})
        mask = options.pop("reset_mask", np.ones(self.num_envs, np.bool_))
        seeds = (
            [None if seed is None else seed + place for place in range(self.num_envs)]
            if not isinstance(seed, Sequence)
            else seed
        )
        self._arrays["reset"][:] = mask
        self._arrays["seed"][:] = [-1 if one is None else one for one in seeds]
        self._order(RESET, "reset")
        return self._arrays["observation"].copy(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        self._arrays["action"][:] = actions
        self._order(STEP, "step")
        found = self._arrays
        return (
            found["observation"].copy(),
            found["reward"].copy(),
            found["terminated"].copy(),
            found["truncated"].copy(),
            {},
        )

    def _order(self, command: bytes, what: str) -> None:
        if self.closed:
            raise WorkerError("this vector of environments is closed; make a new one")
        for pipe, name in zip(self._pipes, self._names, strict=True):
            try:
                pipe.send_bytes(command)
            except OSError as error:
                self._give_up(f"{name} died before {what}: {error.strerror}")
        self._await(what)

    def _await(self, what: str) -> None:
        """Until every worker has answered; a dead one closes its pipe, which counts as an answer."""
        waiting = dict(zip(self._pipes, range(len(self._pipes)), strict=True))
        while waiting:
            ready = multiprocessing.connection.wait(list(waiting), self.timeout)
            if not ready:
                names = ", ".join(self._names[number] for number in waiting.values())
                self._give_up(f"{names}: no answer to {what} within {self.timeout:g} s")
            for pipe in ready:
                number = waiting.pop(pipe)
                try:
                    answer = pipe.recv_bytes()  # pyright: ignore[reportAttributeAccessIssue]
                except (EOFError, OSError):
                    self._processes[number].join(1.0)
                    code = self._processes[number].exitcode
                    self._give_up(f"{self._names[number]} died during {what} with exit code {code}")
                if answer != DONE:
                    self._give_up(f"{self._names[number]} failed during {what}: {answer.decode()}")

    def _give_up(self, reason: str) -> None:
        self.close(terminate=True)
        raise WorkerError(f"{reason}; episodes that had ended are safe, run the command again")

    def close_extras(self, terminate: bool = False, **kwargs: Any) -> None:
        """Workers close their environments, for which they have five seconds; who takes longer is told to end, and two
        seconds later killed. terminate: told after one second."""
        for pipe in self._pipes:
            try:
                pipe.send_bytes(CLOSE)
            except OSError:
                continue
        self._join(1.0 if terminate else 5.0)
        for process in self._processes:
            process.terminate()
        self._join(2.0)
        for process in self._processes:
            process.kill()
            process.join()
        for pipe in self._pipes:
            pipe.close()

    def _join(self, seconds: float) -> None:
        """Wait for all workers, for so long in all."""
        deadline = time.monotonic() + seconds
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))


def default_workers() -> int:
    """One for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _views(shared: dict[str, Field]) -> dict[str, np.ndarray]:
    return {name: np.frombuffer(raw, kind).reshape(shape) for name, (raw, shape, kind) in shared.items()}


def _work(functions: list[Callable[[], gymnasium.Env]], first: int, pipe: Any, shared: dict[str, Field]) -> None:
    """A worker's life: environments `first` and following, one answer for each command."""
    cv2.setNumThreads(1)  # the workers are the parallelism; OpenCV's own threads would only get in their way
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # as an exception, so that what follows is undone
    # some environments have a process of their own, as VizDoom's, which would live on: closed however this ends
    with suppress(OSError, KeyboardInterrupt), ExitStack() as opened:  # the parent is gone, or stops us all
        try:
            envs = []
            for slot, function in enumerate(functions, start=first):
                env = function()
                opened.callback(env.close)
                envs.append((slot, env))
            _obey(envs, pipe, _views(shared))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            pipe.send_bytes(f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})".encode())


def _obey(envs: Sequence[tuple[int, gymnasium.Env]], pipe: Any, arrays: dict[str, np.ndarray]) -> None:
    """What `pipe` orders, with the environments in their slots, until it orders to close."""
    observation, action, seed = arrays["observation"], arrays["action"], arrays["seed"]
    pipe.send_bytes(DONE)
    while (command := pipe.recv_bytes()) != CLOSE:
        for slot, env in envs:
            if command == STEP:
                chosen = action[slot].copy() if action.ndim > 1 else int(action[slot])
                outcome = env.step(chosen)
                observation[slot], arrays["reward"][slot] = outcome[0], outcome[1]
                arrays["terminated"][slot], arrays["truncated"][slot] = outcome[2], outcome[3]
            elif arrays["reset"][slot]:
                observation[slot] = env.reset(seed=None if seed[slot] < 0 else int(seed[slot]))[0]
        pipe.send_bytes(DONE)
