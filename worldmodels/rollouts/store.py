"""Episodes on disk: append-only shards of plain arrays, and a manifest with their checksums.

    data/rollouts/NAME/
      manifest.json            environment, spaces, and one entry for each episode
      shards/000042/           one episode: observation.npy (uint8 NHWC), action.npy, reward.npy

A shard is written under a temporary name, forced onto the disk and renamed; the manifest follows the same way. A kill
loses at most the episode being written, and what the manifest does not name does not exist.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checkpoints import sha256
from ..envs.seeding import split_of
from ..errors import UserError
from ..types import Episode
from .files import require_space, sync, write_array, write_text

ARRAYS = ("observation", "action", "reward")
COLLECT = "python scripts/collect_rollouts.py store={name}"


class Entry(NamedTuple):
    """What the manifest knows of an episode."""

    shard: str
    seed: int
    policy: str
    length: int  # steps
    total_reward: float
    terminated: bool
    truncated: bool
    sha256: dict[str, str]  # of each array's file

    @property
    def split(self) -> str:
        """Decided by the episode's seed alone, whatever the order of files."""
        return split_of(self.seed)


class RolloutStore:
    """Append and read episodes of one environment."""

    def __init__(self, folder: Path, environment: dict[str, Any], entries: list[Entry]):
        self.folder, self.environment, self.entries = folder, environment, entries
        self._lines: list[str] = []  # of the manifest, one for each entry

    @classmethod
    def open(cls, folder: str | Path) -> RolloutStore:
        """Raises UserError where there is no store or its manifest cannot be read."""
        folder = Path(folder)
        manifest = folder / "manifest.json"
        command = COLLECT.format(name=folder.name)
        if not manifest.is_file():
            raise UserError(f"no rollout store at {folder}; collect one with: {command}")
        try:
            content = json.loads(manifest.read_text())
            entries = [Entry(**entry) for entry in content["episodes"]]
            environment = content["environment"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{manifest} is damaged ({error}); move {folder} away and run: {command}") from error
        return cls(folder, environment, entries)

    @classmethod
    def create(cls, folder: str | Path, environment: dict[str, Any]) -> RolloutStore:
        """Open the store to append to it, or begin a new one; nothing is written before the first episode.

        Raises UserError if the existing one holds another environment's episodes.
        """
        folder = Path(folder)
        if (folder / "manifest.json").exists():
            store = cls.open(folder)
            if store.environment != environment:
                changed = [key for key in environment if environment[key] != store.environment.get(key)]
                raise UserError(
                    f"{folder} holds episodes of another environment ({', '.join(changed)} differ); "
                    f"collect into a new store: {COLLECT.format(name=folder.name + '_2')}"
                )
            return store
        return cls(folder, environment, [])

    def append(self, episode: Episode, policy: str) -> Entry:
        """Commit one episode. Raises UserError where the disk is full; nothing half-written is left."""
        if len(episode.observation) != len(episode.action) + 1 or len(episode.action) != len(episode.reward):
            raise ValueError(
                f"an episode of {len(episode.action)} actions needs {len(episode.action) + 1} observations and as many "
                f"rewards as actions, got {len(episode.observation)} and {len(episode.reward)}"
            )
        if not len(episode.action) or not (episode.terminated or episode.truncated):
            raise ValueError("an episode has at least one step and ends by termination or truncation")
        arrays = {name: getattr(episode, name) for name in ARRAYS}
        (self.folder / "shards").mkdir(parents=True, exist_ok=True)
        require_space(self.folder, sum(array.nbytes for array in arrays.values()))
        name = f"{len(self.entries):06d}"
        final = self.folder / "shards" / name
        temporary = final.with_name(f".{name}")
        for leftover in (temporary, final):  # of a kill before the manifest was written
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        try:
            for key, array in arrays.items():
                write_array(temporary / f"{key}.npy", array)
            sums = {key: sha256(temporary / f"{key}.npy") for key in ARRAYS}
            sync(temporary)
            temporary.rename(final)
            sync(final.parent)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(f"cannot write {final}: {error.strerror}; free some disk space and go on") from error
        entry = Entry(
            name,
            int(episode.seed),
            policy,
            len(episode.action),
            float(np.sum(episode.reward, dtype=np.float64)),
            bool(episode.terminated),
            bool(episode.truncated),
            sums,
        )
        self.entries.append(entry)
        self._write_manifest()
        return entry

    def read(self, entry: Entry) -> Episode:
        """The episode, its arrays mapped from the disk rather than loaded."""
        folder = self.folder / "shards" / entry.shard
        try:
            observation, action, reward = (
                np.load(folder / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in ARRAYS
            )
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"shard {folder} cannot be read ({error}); collect into a new store") from error
        return Episode(entry.seed, observation, action, reward, entry.terminated, entry.truncated)

    def split(self, name: str) -> list[Entry]:
        """The entries of "train", "validation" or "test"."""
        return [entry for entry in self.entries if entry.split == name]

    def verify(self) -> list[str]:
        """The files whose bytes are not the ones that were committed."""
        damaged = []
        for entry in self.entries:
            for key, wanted in entry.sha256.items():
                path = self.folder / "shards" / entry.shard / f"{key}.npy"
                if not path.is_file() or sha256(path) != wanted:
                    damaged.append(str(path))
        return damaged

    @property
    def frames(self) -> int:
        """Observations in the store."""
        return sum(entry.length + 1 for entry in self.entries)

    def _write_manifest(self) -> None:
        # an entry is put into words once: 10,000 of them anew for each episode took longer than playing it
        self._lines += [json.dumps(entry._asdict()) for entry in self.entries[len(self._lines) :]]
        environment, episodes = json.dumps(self.environment), ",\n".join(self._lines)
        write_text(
            self.folder / "manifest.json",
            f'{{"format": 1,\n"environment": {environment},\n"episodes": [\n{episodes}\n]}}\n',
        )


Source = tuple[RolloutStore, Entry]


def open_stores(folders: Sequence[str | Path]) -> list[RolloutStore]:
    """Stores to learn from together.

    Raises UserError where one is missing, holds another environment's episodes than the first, or where all of them
    together have no training or no validation episode.
    """
    if not folders:
        raise UserError("no rollout store is named; set store=NAME")
    stores = [RolloutStore.open(folder) for folder in folders]
    for store in stores[1:]:
        if store.environment != stores[0].environment:
            raise UserError(f"{store.folder} and {stores[0].folder} hold episodes of different environments")
    for split in ("train", "validation"):
        if not sources_of(stores, split):
            name = stores[0].folder.name
            raise UserError(f"{stores[0].folder} has no {split} episode; add some with: {COLLECT.format(name=name)}")
    return stores


def sources_of(stores: Sequence[RolloutStore], split: str) -> list[Source]:
    """All episodes of a split."""
    return [(store, entry) for store in stores for entry in store.split(split)]
