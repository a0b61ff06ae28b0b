import os
import subprocess
import sys
from pathlib import Path

import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from worldmodels.envs.seeding import environment_seed, split_of
from worldmodels.errors import UserError
from worldmodels.rollouts import minari as exchange
from worldmodels.rollouts.minari import export_minari, import_minari
from worldmodels.rollouts.store import RolloutStore
from worldmodels.types import Episode

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")  # of missing authors and the like

ROOT = Path(__file__).parents[2]
NAME = "demo/numbers-v0"
SEEDS = [environment_seed("validation", 0), *(environment_seed("train", index) for index in range(2))]
SEEDS.append(environment_seed("test", 5))
DISCRETE = {"type": "discrete", "n": 4}


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    """Where Minari keeps what a test writes."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


@pytest.fixture
def make_store(tmp_path, environment):
    """A store of random episodes: one for each of SEEDS, ending in every possible way."""

    def make(name="numbers", shape=(64, 64, 3), **changes) -> RolloutStore:
        rng = np.random.default_rng(0)
        store = RolloutStore.create(
            tmp_path / name, {**environment, "observation_shape": list(shape), "kwargs": {"size": 64}, **changes}
        )
        discrete = store.environment["action"] == DISCRETE
        for index, seed in enumerate(SEEDS):
            length = 3 + index
            frames = rng.integers(0, 256, (length + 1, *shape)).astype(np.uint8)
            episode = Episode(
                seed,
                frames if len(shape) == 3 else rng.normal(size=frames.shape).astype(np.float32),
                rng.integers(0, 4, length) if discrete else rng.uniform(-1, 1, (length, 3)).astype(np.float32),
                rng.normal(size=length).astype(np.float32),
                index != 1,
                index in (1, 2),
            )
            store.append(episode, ["held", "uniform"][index % 2])
        return store

    return make


def foreign(name=NAME, episodes=21, steps=4, observation=None, action=None, ends=True, **given) -> minari.MinariDataset:
    """A dataset as others make one, without anything of ours; its seeds are small numbers."""
    observation = observation or spaces.Box(-1, 1, (4,), np.float64)
    action = action or spaces.Discrete(2)
    buffers = [
        EpisodeBuffer(
            seed=index,
            observations=[observation.sample() for _ in range(steps + 1)],
            actions=[action.sample() for _ in range(steps)],
            rewards=[1.0] * steps,
            terminations=[False] * steps,
            truncations=[False] * (steps - 1) + [ends],
        )
        for index in range(episodes)
    ]
    return minari.create_dataset_from_buffers(
        name, buffers, observation_space=observation, action_space=action, **given
    )


def assert_same(again: RolloutStore, store: RolloutStore) -> None:
    """All that a store knows, down to each file's checksum."""
    assert again.environment == store.environment
    assert again.entries == store.entries and again.verify() == []
    assert [entry.split for entry in again.entries] == [entry.split for entry in store.entries]


@pytest.mark.parametrize(
    "changes",
    [{}, {"action": DISCRETE}, {"shape": (6,)}, {"shape": (6,), "action": DISCRETE}],
    ids=["frames", "frames-discrete", "vectors", "vectors-discrete"],
)
def test_there_and_back_nothing_changes(make_store, tmp_path, changes):
    store = make_store(**changes)
    export_minari(store, NAME)
    again = import_minari(NAME, tmp_path / "again")
    assert_same(again, store)
    assert_same(RolloutStore.open(again.folder), store)
    for entry in store.entries:
        for got, wanted in zip(again.read(entry), store.read(entry)):
            assert np.array_equal(got, wanted) and np.asarray(got).dtype == np.asarray(wanted).dtype


def test_others_can_read_it(make_store):
    store = make_store()
    export_minari(store, NAME)
    dataset = minari.load_dataset(NAME)
    assert list(minari.list_local_datasets()) == [NAME]
    assert dataset.total_episodes == 4 and dataset.total_steps == 3 + 4 + 5 + 6
    assert dataset.spec.observation_space == spaces.Box(0, 255, (64, 64, 3), np.uint8)
    assert dataset.spec.action_space == spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))
    for entry, episode in zip(store.entries, dataset.iterate_episodes()):
        assert len(episode.observations) == entry.length + 1 == len(episode.rewards) + 1
        assert not episode.terminations[:-1].any() and not episode.truncations[:-1].any()
        assert (episode.terminations[-1], episode.truncations[-1]) == (entry.terminated, entry.truncated)
    metadata = list(dataset.storage.get_episode_metadata(range(4)))
    assert [one["seed"] for one in metadata] == SEEDS
    assert [one["worldmodels_policy"] for one in metadata] == ["held", "uniform", "held", "uniform"]
    assert dataset.storage.metadata["worldmodels_environment"] == store.environment


def test_foreign_episodes_get_splits_that_stay(tmp_path):
    foreign(env="CartPole-v1")
    store = import_minari(NAME, tmp_path / "one")
    assert [index for index, entry in enumerate(store.entries) if entry.split == "validation"] == [0, 10, 20]
    assert len(store.split("train")) == 18 and len({entry.seed for entry in store.entries}) == 21
    assert import_minari(NAME, tmp_path / "two").entries == store.entries
    # to the number, since another process must find the same
    assert [entry.seed for entry in store.entries[:2]] == [1590145999, 844455818]
    assert {split_of(entry.seed) for entry in store.entries[1:10]} == {"train"}
    foreign("demo/others-v0")
    others = import_minari("demo/others-v0", tmp_path / "three")
    assert not {entry.seed for entry in others.entries} & {entry.seed for entry in store.entries}


def test_foreign_episodes_are_ours_in_type(tmp_path):
    foreign(env="CartPole-v1", ends=False)
    store = import_minari(NAME, tmp_path / "store")
    assert store.environment["id"] == "CartPole-v1" and store.environment["action_repeat"] == 1
    assert store.environment["action"] == {"type": "discrete", "n": 2}
    assert store.environment["observation_shape"] == [4]
    entry = store.entries[0]
    assert entry.policy == NAME and entry.truncated and not entry.terminated, "cut where the recording stops"
    _, observation, action, reward, *_ = store.read(entry)
    assert (observation.dtype, action.dtype, reward.dtype) == (np.float32, np.int64, np.float32)
    foreign("demo/frames-v0", 2, observation=spaces.Box(0, 255, (32, 32, 3), np.uint8))
    frames = import_minari("demo/frames-v0", tmp_path / "frames")
    assert frames.read(frames.entries[0]).observation.dtype == np.uint8
    assert frames.environment["id"] == "demo/frames-v0", "nobody said which environment it was"


def test_an_interrupted_import_goes_on(make_store, tmp_path, monkeypatch):
    store = make_store()
    store.append(store.read(store.entries[0]), "held")  # twice the same is not a reason to skip it
    export_minari(store, NAME)
    append = RolloutStore.append

    def die(self, episode, policy):
        if len(self.entries) == 2:
            raise KeyboardInterrupt
        return append(self, episode, policy)

    with monkeypatch.context() as patch:
        patch.setattr(RolloutStore, "append", die)
        with pytest.raises(KeyboardInterrupt):
            import_minari(NAME, tmp_path / "again")
    assert len(RolloutStore.open(tmp_path / "again").entries) == 2
    assert_same(import_minari(NAME, tmp_path / "again"), store)
    assert_same(import_minari(NAME, tmp_path / "again"), store)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_export_leaves_nothing(make_store, monkeypatch, capsys, error):
    def die(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(exchange, "_buffer", die)
        with pytest.raises((KeyboardInterrupt, UserError), match="No space left" if error.args else None):
            export_minari(make_store(), NAME)
    assert minari.list_local_datasets() == {} and capsys.readouterr().out == ""
    export_minari(make_store("other"), NAME)


def test_what_cannot_be_exported(make_store, tmp_path, environment, datasets):
    with pytest.raises(UserError, match=r"no episode to export.*collect_rollouts\.py store=empty"):
        export_minari(RolloutStore.create(tmp_path / "empty", environment), NAME)
    store = make_store()
    for name in ("numbers", "demo/numbers", "../numbers-v0", "demo/num bers-v0", "d/numbers-v0"):
        with pytest.raises(UserError, match=r"no name of a Minari dataset.*dataset=namespace/name-v0"):
            export_minari(store, name)
    assert not datasets.exists()
    export_minari(store, NAME)
    before = {path: path.read_bytes() for path in datasets.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"already exists.*minari delete {NAME}"):
        export_minari(store, NAME)
    assert before == {path: path.read_bytes() for path in datasets.rglob("*") if path.is_file()}


def test_what_cannot_be_imported(tmp_path, datasets):
    with pytest.raises(UserError, match=r"no Minari dataset demo/none-v0.*minari download demo/none-v0"):
        import_minari("demo/none-v0", tmp_path / "store")
    pair = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2)))
    for number, (wanted, given) in enumerate(
        [
            ("neither uint8 frames nor vectors", {"observation": spaces.Discrete(3)}),
            ("neither uint8 frames nor vectors", {"observation": spaces.Box(0, 1, (8, 8, 3))}),
            ("count from 1", {"action": spaces.Discrete(2, start=1)}),
            ("not supported", {"action": pair}),
        ]
    ):
        foreign(f"demo/odd-v{number}", 0, **given)
        with pytest.raises(UserError, match=wanted):
            import_minari(f"demo/odd-v{number}", tmp_path / "store")
    dataset = foreign(episodes=1)
    ends = [True, False, False, True]
    beyond = EpisodeBuffer(
        observations=[np.zeros(4)] * 5, actions=[0] * 4, rewards=[0.0] * 4, terminations=ends, truncations=[False] * 4
    )
    dataset.update_dataset_from_buffer([beyond])
    with pytest.raises(UserError, match=f"episode 1 of .* goes on after its end.*minari show {NAME}"):
        import_minari(NAME, tmp_path / "beyond")
    (datasets / NAME / "data" / "metadata.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        import_minari(NAME, tmp_path / "damaged")
    assert not (tmp_path / "store").exists() and not (tmp_path / "damaged").exists()


def test_environments_do_not_mix(make_store, tmp_path):
    export_minari(make_store(), NAME)
    other = make_store("other", action_repeat=4)
    before = list(other.entries)
    with pytest.raises(UserError, match="action_repeat differ"):
        import_minari(NAME, other.folder)
    assert RolloutStore.open(other.folder).entries == before


@pytest.mark.parametrize("package", ["minari", "h5py"])
def test_minari_is_optional(make_store, tmp_path, monkeypatch, datasets, package):
    store = make_store()
    monkeypatch.setitem(sys.modules, package, None)
    for work in (lambda: export_minari(store, NAME), lambda: import_minari(NAME, tmp_path / "again")):
        with pytest.raises(UserError, match=rf"{package} is not installed; run: pip install .*minari\[hdf5\]"):
            work()
    assert not datasets.exists()


def test_as_a_person_types_it(make_store, tmp_path):
    store = make_store("data/rollouts/a")

    def convert(*arguments):
        command = [sys.executable, ROOT / "scripts" / "convert_minari.py", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120)

    done = convert("store=a", f"dataset={NAME}", "direction=export")
    assert done.stdout == f"4 episodes of data/rollouts/a are now the Minari dataset {NAME}\n", done.stderr
    done = convert("store=b", f"dataset={NAME}", "direction=import")
    assert done.stdout.startswith("data/rollouts/b holds 4 episodes"), done.stderr
    assert_same(RolloutStore.open(tmp_path / "data/rollouts/b"), store)
    done = convert("store=b", f"dataset={NAME}", "direction=sideways")
    assert done.returncode == 2 and done.stderr.startswith("error: direction=sideways") and done.stderr.count("\n") == 1
