"""Exchange with Minari, the common format of datasets of episodes: a store becomes a dataset, a dataset a store.

Minari keeps its datasets where the environment variable MINARI_DATASETS_PATH says, else within the home folder.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ..envs.make import EnvSettings
from ..envs.seeding import environment_seed, split_of
from ..envs.spaces import describe, restore
from ..errors import UserError
from ..types import Episode
from .files import require_space
from .store import RolloutStore

# within Minari's metadata; an episode with POLICY is ours, and so is its seed
ENVIRONMENT, POLICY = "worldmodels_environment", "worldmodels_policy"
VALIDATION_EVERY = 10
# Minari checks a name only once it has made folders for it
DATASET_ID = re.compile(r"([-\w]{2,}/)*[-\w]+-v\d+")


def export_minari(store: RolloutStore, dataset_id: str) -> None:
    """Write a store's episodes as a new Minari dataset, without loss.

    An episode's metadata has its seed and, as worldmodels_policy, its policy; the dataset's has the environment.
    Raises UserError without Minari, where the name is malformed or taken, the store is empty or cannot be read, or the
    disk is full; nothing half-written is left.
    """
    minari = _minari()
    if not DATASET_ID.fullmatch(dataset_id):
        raise UserError(f"{dataset_id!r} is no name of a Minari dataset; write dataset=namespace/name-v0")
    if not store.entries:
        command = f"python scripts/collect_rollouts.py store={store.folder.name}"
        raise UserError(f"{store.folder} has no episode to export; add some with: {command}")
    dataset = _begin(minari, store, dataset_id)
    try:
        dataset.storage.update_metadata({ENVIRONMENT: store.environment})
        folder = Path(dataset.spec.data_path)
        for index, entry in enumerate(store.entries):
            episode = store.read(entry)
            require_space(folder, episode.observation.nbytes + episode.action.nbytes + episode.reward.nbytes)
            dataset.update_dataset_from_buffer([_buffer(episode)])
            dataset.storage.update_episode_metadata([{POLICY: entry.policy}], [index])
    except BaseException as error:  # a kill by hand too: the dataset is whole or absent
        with redirect_stdout(None):
            minari.delete_dataset(dataset_id)
        if isinstance(error, OSError):
            raise UserError(
                f"cannot write the Minari dataset {dataset_id} ({_line(error)}); free some disk space"
            ) from error
        raise


def import_minari(dataset_id: str, folder: str | Path) -> RolloutStore:
    """Append a Minari dataset's episodes to the store at `folder`, or begin it; those it has already are skipped.

    An episode that `export_minari` wrote keeps its seed and policy. Any other gets a seed that follows from the
    dataset's name and its index there, every tenth of the validation space and the rest of the training space, and
    the dataset's name as its policy. One that stops without an end counts as truncated. Arrays get `Episode`'s types.

    Raises UserError without Minari, for a dataset that is unknown, damaged or not like ours, or where the store holds
    another environment's episodes.
    """
    dataset = _load(_minari(), dataset_id)
    store = RolloutStore.create(folder, _environment(dataset, dataset_id))
    present = Counter((entry.seed, entry.policy) for entry in store.entries)
    for index in range(dataset.total_episodes):
        try:
            identity = _identity(dataset, dataset_id, index)
            if present[identity]:
                present[identity] -= 1
                continue
            seed, policy = identity
            store.append(_episode(dataset, index, seed), policy)
        except (ValueError, KeyError, OSError) as error:
            raise UserError(
                f"episode {index} of the Minari dataset {dataset_id} cannot be taken ({_line(error)}); "
                f"see the dataset with: minari show {dataset_id}"
            ) from error
    return store


def _minari() -> Any:
    """The package. Raises UserError where it, or what it writes with, is not installed."""
    try:
        import h5py  # noqa: F401  Minari asks for it only once it has made folders
        import minari
    except ImportError as error:
        command = "pip install -c constraints.txt 'minari[hdf5]'"
        raise UserError(f"{error.name} is not installed; run: {command}") from error
    return minari


def _begin(minari: Any, store: RolloutStore, dataset_id: str) -> Any:
    """A new dataset without episodes."""
    observation = store.read(store.entries[0]).observation
    low, high = (0, 255) if observation.dtype == np.uint8 else (-np.inf, np.inf)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an author and the like, which a store does not know
            return minari.create_dataset_from_buffers(
                dataset_id,
                [],
                observation_space=spaces.Box(low, high, observation.shape[1:], observation.dtype.type),
                action_space=restore(store.environment["action"]),
                algorithm_name=", ".join(sorted({entry.policy for entry in store.entries})),
                description=f"Episodes of {store.environment['id']}, collected by worldmodels",
                jpeg_encoding=False,  # frames stay as they are
            )
    except (ValueError, OSError) as error:
        raise UserError(
            f"cannot begin the Minari dataset {dataset_id} ({_line(error)}); "
            f"choose another name or version, or remove it with: minari delete {dataset_id}"
        ) from error


def _buffer(episode: Episode) -> Any:
    """An episode as Minari takes it, its arrays still on the disk."""
    from minari.data_collector import EpisodeBuffer

    terminations, truncations = np.zeros((2, len(episode.reward)), np.bool_)
    terminations[-1], truncations[-1] = episode.terminated, episode.truncated
    arrays: dict[str, Any] = {
        "observations": episode.observation,
        "actions": episode.action,
        "rewards": episode.reward,
        "terminations": terminations,
        "truncations": truncations,
    }
    return EpisodeBuffer(seed=episode.seed, **arrays)


def _load(minari: Any, dataset_id: str) -> Any:
    """A dataset of this machine, nothing of its episodes read yet."""
    try:
        return minari.load_dataset(dataset_id)
    except FileNotFoundError as error:
        raise UserError(f"no Minari dataset {dataset_id} here; get it with: minari download {dataset_id}") from error
    except (ValueError, KeyError, AssertionError, ImportError, OSError, gymnasium.error.Error) as error:
        raise UserError(
            f"the Minari dataset {dataset_id} cannot be read ({_line(error)}); "
            f"get it again with: minari download {dataset_id} --force"
        ) from error


def _environment(dataset: Any, dataset_id: str) -> dict[str, Any]:
    """What a store remembers of the environment: what an exported one did, else what Minari knows of it."""
    ours = dataset.storage.metadata.get(ENVIRONMENT)
    if ours is not None:
        return ours
    spec = dataset.spec
    observation, action = spec.observation_space, spec.action_space
    if not isinstance(observation, spaces.Box) or not (
        len(observation.shape) == 1 or (len(observation.shape) == 3 and observation.dtype == np.uint8)
    ):
        kind = type(observation).__name__
        raise UserError(f"observations of {dataset_id} ({kind}) are neither uint8 frames nor vectors; choose another")
    if isinstance(action, spaces.Discrete) and action.start != 0:
        raise UserError(f"actions of {dataset_id} count from {action.start}, not from 0; choose another dataset")
    env = spec.env_spec
    settings = EnvSettings(env.id, env.kwargs) if env is not None else EnvSettings(dataset_id, {})
    return {**settings.describe(), "action": describe(action), "observation_shape": list(observation.shape)}


def _identity(dataset: Any, dataset_id: str, index: int) -> tuple[int, str]:
    """Seed and policy of an episode. Raises ValueError for a seed of no split."""
    metadata = next(iter(dataset.storage.get_episode_metadata([index])))
    if POLICY in metadata:
        split_of(int(metadata["seed"]))
        return int(metadata["seed"]), str(metadata[POLICY])
    number = zlib.crc32(dataset_id.encode())  # Python's own hash differs from process to process
    if index % VALIDATION_EVERY == 0:
        return environment_seed("validation", number + index // VALIDATION_EVERY), dataset_id
    return environment_seed("train", index, number), dataset_id


def _episode(dataset: Any, index: int, seed: int) -> Episode:
    """One episode, loaded. Raises ValueError where it goes on after its end."""
    data = next(iter(dataset.iterate_episodes([index])))
    terminations, truncations = (np.asarray(ends, np.bool_) for ends in (data.terminations, data.truncations))
    if (terminations | truncations)[:-1].any():
        raise ValueError("it goes on after its end")
    observation = np.asarray(data.observations)
    discrete = isinstance(dataset.spec.action_space, spaces.Discrete)
    terminated = bool(terminations[-1:].any())
    return Episode(
        seed,
        observation if observation.ndim == 4 else observation.astype(np.float32, copy=False),
        np.asarray(data.actions, np.int64 if discrete else np.float32),
        np.asarray(data.rewards, np.float32),
        terminated,
        bool(truncations[-1:].any()) or not terminated,
    )


def _line(error: Exception) -> str:
    """The first line of what went wrong."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
