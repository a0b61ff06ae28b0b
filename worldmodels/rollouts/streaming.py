"""Rollouts larger than the memory: read from the disk a chunk of whole episodes at a time.

One chunk, a plain Replay, is drawn from while a thread reads the next. What is drawn follows from the seeds alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..envs.spaces import action_dim
from ..types import Posterior, Window
from .replay import Replay, replay_of
from .store import Source

HELD_OUT_BYTES = 512 << 20  # about 43,000 frames of 64×64×3


class StreamingReplay:
    """Draws frames and time-major windows as a Replay does, each from one chunk of at most `chunk_bytes`.

    It moves on after as many draws as the chunk has rows. The sources come in a new order, drawn with `seed`, in each
    pass, every one once; the chunk in which a pass ends takes the first of the next. An episode larger than
    `chunk_bytes` is a chunk of its own. What fails in the thread, such as the UserError of a damaged shard, is raised
    by the draw that needs the chunk.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        device: torch.device | str,
        latents: Sequence[np.ndarray] | None,
        chunk_bytes: int,
        seed: int = 0,
    ):
        self.sources, self.latents, self.device = sources, latents, torch.device(device)
        self.sizes = episode_bytes(sources, latents)
        self.chunk_bytes = min(chunk_bytes, sum(self.sizes))  # no chunk is longer than a pass
        self.rows = sum(entry.length + 1 for _, entry in sources)
        self.order = torch.Generator().manual_seed(seed)
        self.plan = self._plan()
        self.chunk: Replay | None = None
        self.left = 0  # draws until the next chunk
        self.reader: _Reader | None = self._read_next()

    def __len__(self) -> int:
        return self.rows

    def frames(self, count: int, generator: torch.Generator) -> Tensor | Posterior:
        """`count` observations, uniformly over the chunk's rows, with replacement."""
        return self._draw_from(count).frames(count, generator)

    def windows(
        self, batch: int, length: int, generator: torch.Generator, overhang: bool = False, through: bool = False
    ) -> Window:
        """`batch` windows of `length` steps of episodes of the chunk, see `Replay.windows`."""
        return self._draw_from(batch * length).windows(batch, length, generator, overhang, through)

    def close(self) -> None:
        """Wait for the thread and let go of the chunks; a draw raises ValueError from here on."""
        if self.reader is not None:
            self.reader.thread.join()
        self.reader, self.chunk, self.left = None, None, 0

    def _draw_from(self, rows: int) -> Replay:
        """The chunk that the next draw, of so many rows, is made from."""
        if self.left <= 0 or self.chunk is None:
            if self.reader is None:
                raise ValueError("this replay was closed")
            fresh = self.reader.take()
            self.chunk = None  # so that the device never holds two
            self.chunk = fresh if isinstance(fresh, Replay) else fresh.to(self.device)
            self.left = len(self.chunk)
            self.reader = self._read_next()
        self.left -= rows
        return self.chunk

    def _read_next(self) -> _Reader:
        numbers = next(self.plan)
        sources = [self.sources[number] for number in numbers]
        latents = None if self.latents is None else [self.latents[number] for number in numbers]
        return _Reader(sources, latents, pin=self.device.type == "cuda")

    def _plan(self) -> Iterator[list[int]]:
        """The numbers of the sources of each chunk, without end."""
        chunk, size = [], 0
        while True:
            for number in torch.randperm(len(self.sources), generator=self.order).tolist():
                if chunk and size + self.sizes[number] > self.chunk_bytes:
                    yield chunk
                    chunk, size = [], 0
                chunk.append(number)
                size += self.sizes[number]


class _Pinned(NamedTuple):
    """What makes a Replay, in memory that a device can copy from by itself."""

    observation: tuple[Tensor, ...]  # u8 [F, H, W, C] alone, or the mean and the log_std [F, Z]
    steps: tuple[Tensor, Tensor, Tensor]  # action, reward, terminated
    lengths: list[int]

    @classmethod
    def of(cls, replay: Replay) -> _Pinned:
        seen = replay.observation
        observation = tuple(
            half.contiguous().pin_memory() for half in (seen if isinstance(seen, Posterior) else (seen,))
        )
        steps = (replay.action, replay.reward, replay.terminated)
        action, reward, terminated = (step.contiguous().pin_memory() for step in steps)
        return cls(observation, (action, reward, terminated), replay.lengths.tolist())

    def to(self, device: torch.device) -> Replay:
        """The Replay on a device; its copies are queued, not waited for."""
        seen = [half.to(device, non_blocking=True) for half in self.observation]
        action, reward, terminated = (step.to(device, non_blocking=True) for step in self.steps)
        return Replay(Posterior(*seen) if len(seen) == 2 else seen[0], action, reward, terminated, self.lengths)


class _Reader:
    """A thread that reads one chunk into the host's memory and ends."""

    def __init__(self, sources: Sequence[Source], latents: Sequence[np.ndarray] | None, pin: bool):
        self.sources, self.latents, self.pin = sources, latents, pin
        self.outcome: Replay | _Pinned | Exception
        self.thread = Thread(target=self._read, name="replay reader", daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            replay = replay_of(self.sources, latents=self.latents)
            self.outcome = _Pinned.of(replay) if self.pin else replay
        except Exception as error:
            self.outcome = error

    def take(self) -> Replay | _Pinned:
        """The chunk, once it is there. Raises what reading it has raised."""
        self.thread.join()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def open_replay(
    sources: Sequence[Source],
    device: torch.device | str = "cpu",
    latents: Sequence[np.ndarray] | None = None,
    budget_bytes: int | None = None,
    seed: int = 0,
) -> Replay | StreamingReplay:
    """A Replay where the sources' data fit `budget_bytes`, else a StreamingReplay; says which in one line.

    budget_bytes: None for half of what is free; seed: of the order in which a stream takes the sources.
    """
    budget = free_bytes(torch.device(device)) // 2 if budget_bytes is None else budget_bytes
    size = sum(episode_bytes(sources, latents))
    if size <= budget:
        print(f"training data in memory: {size:,} bytes fit the budget of {budget:,}", flush=True)
        return replay_of(sources, device, latents)
    chunk = budget // 4  # the one drawn from, the next, and the copies made while that is put together
    print(
        f"training data streamed in chunks of {chunk:,} bytes: {size:,} bytes exceed the budget of {budget:,}",
        flush=True,
    )
    return StreamingReplay(sources, device, latents, chunk, seed)


def spread_within(
    sources: Sequence[Source], latents: Sequence[np.ndarray] | None = None, budget_bytes: int = HELD_OUT_BYTES
) -> slice:
    """Every n-th of the sources, with the least n for which their data fit the budget; one at least."""
    sizes = episode_bytes(sources, latents)
    fits = (step for step in range(1, len(sizes)) if sum(sizes[::step]) <= budget_bytes)
    return slice(None, None, next(fits, len(sizes)))


def episode_bytes(sources: Sequence[Source], latents: Sequence[np.ndarray] | None = None) -> list[int]:
    """What each source takes in a Replay. Raises UserError where the first one's shard cannot be read."""
    store, entry = sources[0]
    observation = store.read(entry).observation if latents is None else latents[0]
    # beside the action in each row: the reward, and whether an episode ends, begins and goes on there
    row = observation[0].nbytes + 4 * (action_dim(store.environment["action"]) + 1) + 3
    return [row * (entry.length + 1) for _, entry in sources]


def free_bytes(device: torch.device) -> int:
    """The device's free memory, at most the host's: what goes to a device passes through it."""
    host = _available_bytes()
    return min(torch.cuda.mem_get_info(device)[0], host) if device.type == "cuda" else host


def _available_bytes() -> int:
    """What the system says is available; where it does not say, half of its memory, or 4 GiB."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, ValueError, KeyError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 4 << 30
