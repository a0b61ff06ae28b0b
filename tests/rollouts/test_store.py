import json

import numpy as np
import pytest

from worldmodels.envs.seeding import environment_seed
from worldmodels.errors import UserError
from worldmodels.rollouts import store as store_module
from worldmodels.rollouts.store import RolloutStore, open_stores, sources_of

TRAIN, VALIDATION = environment_seed("train", 0), environment_seed("validation", 0)


@pytest.fixture
def store(tmp_path, environment, make_episode):
    store = RolloutStore.create(tmp_path / "numbers", environment)
    store.append(make_episode(TRAIN, 5, terminated=True), "held")
    store.append(make_episode(VALIDATION, 3), "uniform")
    return store


def test_what_is_written_is_read(store, make_episode):
    again = RolloutStore.open(store.folder)
    assert again.entries == store.entries
    entry = again.entries[0]
    assert (entry.seed, entry.policy, entry.length, entry.total_reward) == (TRAIN, "held", 5, 10.0)
    episode, wanted = again.read(entry), make_episode(TRAIN, 5, terminated=True)
    assert isinstance(episode.observation, np.memmap)
    for name in ("observation", "action", "reward"):
        assert np.array_equal(getattr(episode, name), getattr(wanted, name))
    assert again.frames == 6 + 4


def test_splits_follow_from_the_seed_and_not_from_the_order(store):
    store.entries.reverse()
    assert [entry.seed for entry in store.split("train")] == [TRAIN]
    assert [entry.seed for entry in store.split("validation")] == [VALIDATION]


def test_one_flipped_bit_is_found_and_named(store):
    path = store.folder / "shards" / "000001" / "observation.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert store.verify() == [str(path)]


@pytest.mark.parametrize("moment", ["write_array", "sync", "write_text"])
def test_a_kill_while_writing_loses_only_that_episode(store, make_episode, monkeypatch, moment):
    def die(*_):
        raise KeyboardInterrupt

    before = list(store.entries)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, moment, die)
        with pytest.raises(KeyboardInterrupt):
            store.append(make_episode(environment_seed("train", 1), 4), "held")
    survivor = RolloutStore.open(store.folder)
    assert survivor.entries == before and survivor.verify() == []
    survivor.append(make_episode(environment_seed("train", 2), 7), "held")
    assert RolloutStore.open(store.folder).verify() == []
    assert survivor.read(survivor.entries[-1]).reward.shape == (7,)


def test_a_full_disk_is_one_line_and_leaves_nothing(store, make_episode, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "write_array", full)
    with pytest.raises(UserError, match="No space left"):
        store.append(make_episode(environment_seed("train", 1), 4), "held")
    assert sorted(path.name for path in (store.folder / "shards").iterdir()) == ["000000", "000001"]


def test_episodes_that_are_none(store, make_episode):
    good = make_episode(TRAIN, 4)
    with pytest.raises(ValueError, match="5 observations"):
        store.append(good._replace(observation=good.observation[:-1]), "held")
    with pytest.raises(ValueError, match="ends by"):
        store.append(good._replace(truncated=False), "held")


def test_no_store_empty_store_damaged_manifest(tmp_path, environment, store):
    with pytest.raises(UserError, match=r"no rollout store.*collect_rollouts\.py store=none"):
        RolloutStore.open(tmp_path / "none")
    RolloutStore.create(tmp_path / "empty", environment)
    assert not (tmp_path / "empty").exists(), "nothing is written before the first episode"
    only_training = RolloutStore.create(tmp_path / "half", environment)
    only_training.entries = store.split("train")
    only_training.folder.mkdir()
    only_training._write_manifest()
    with pytest.raises(UserError, match="no validation episode"):
        open_stores([tmp_path / "half"])
    (store.folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        RolloutStore.open(store.folder)


def test_environments_do_not_mix(store, environment):
    other = {**environment, "action_repeat": 4}
    with pytest.raises(UserError, match="action_repeat differ"):
        RolloutStore.create(store.folder, other)


def test_several_stores_are_one(store, tmp_path, environment, make_episode):
    second = RolloutStore.create(tmp_path / "more", environment)
    second.append(make_episode(environment_seed("train", 3), 2), "held")
    both = open_stores([store.folder, second.folder])
    assert [entry.length for _, entry in sources_of(both, "train")] == [5, 2]


def test_the_manifest_is_plain_json(store):
    content = json.loads((store.folder / "manifest.json").read_text())
    assert content["format"] == 1 and len(content["episodes"]) == 2
