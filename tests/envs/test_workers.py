import os
import signal
import time
from contextlib import closing
from functools import partial

import gymnasium
import numpy as np
import pytest
from environments import episode_length

from worldmodels.envs.make import EnvSettings, make_env, make_envs, reset_some
from worldmodels.envs.workers import WorkerError, WorkerVectorEnv
from worldmodels.rollouts.behaviours import RandomBehaviour
from worldmodels.rollouts.collect import play
from worldmodels.rollouts.store import RolloutStore


def vector(name, count=5, workers=2, timeout=30.0, **kwargs):
    settings = EnvSettings(f"environments:{name}-v0", kwargs)
    return WorkerVectorEnv([partial(make_env, settings)] * count, workers, timeout)


@pytest.mark.parametrize("name", ["Counting", "Blob"])
def test_the_same_as_one_process(name):
    ours = vector(name)
    theirs = make_envs(EnvSettings(f"environments:{name}-v0", {}), 5, asynchronous=False)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.action_space == theirs.action_space and len(ours._processes) == 2
    ours.action_space.seed(0)
    assert np.array_equal(ours.reset(seed=7)[0], theirs.reset(seed=7)[0])
    ends = 0
    for number in range(40):
        action = ours.action_space.sample()
        for mine, other in zip(ours.step(action)[:4], outcome := theirs.step(action)[:4], strict=True):
            assert np.array_equal(mine, other)
        ended = outcome[2] | outcome[3]
        if ended.any():
            ends += 1
            seeds = {int(slot): 1000 + number for slot in np.flatnonzero(ended)}
            assert np.array_equal(reset_some(ours, seeds), reset_some(theirs, seeds))
    assert ends >= 1
    ours.close(), theirs.close()


def test_what_is_returned_stays():
    envs = vector("Counting")
    first, _ = envs.reset(seed=0)
    kept = first.copy()
    envs.step(np.ones(5, np.int64))
    assert np.array_equal(first, kept), "a copy, not the shared memory"
    assert envs.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.DISABLED
    envs.close()


@pytest.mark.parametrize(
    "seed, words", [(91, "exit code 3"), (92, "no answer to step within 1 s"), (93, "a wheel came")]
)
def test_a_troubled_worker_is_named_in_time(seed, words):
    envs = vector("Troubled", timeout=1.0)
    reset_some(envs, {0: 10, 1: 11, 2: 12, 3: 13, 4: seed})
    envs.step(np.zeros(5, np.int64))
    started = time.perf_counter()
    with pytest.raises(WorkerError, match=rf"worker 1 \(pid \d+; .*Troubled-v0, environments 3 to 4\).*{words}"):
        envs.step(np.zeros(5, np.int64))
    assert time.perf_counter() - started < 5
    assert not any(process.is_alive() for process in envs._processes), "nobody is left behind"
    with pytest.raises(WorkerError, match="closed"):
        envs.step(np.zeros(5, np.int64))


@pytest.mark.parametrize(
    "how", ["the block ends", "a worker fails", "the parent dies", "told to end", "two fail to close"]
)
def test_environments_are_closed_with_their_vector(how, tmp_path):
    """What an environment has of its own, as VizDoom's a process, would else live on."""
    with closing(vector("Leaving", folder=str(tmp_path))) as envs:
        assert len(list(tmp_path.iterdir())) == 5
        if how == "a worker fails":
            reset_some(envs, {0: 10, 1: 11, 2: 12, 3: 13, 4: 93})
            envs.step(np.zeros(5, np.int64))
            with pytest.raises(WorkerError, match="a wheel came"):
                envs.step(np.zeros(5, np.int64))
        if how == "the parent dies":
            for pipe, process in zip(envs._pipes, envs._processes, strict=True):
                pipe.close()  # as the system does then
                process.join(10.0)
        if how == "two fail to close":
            reset_some(envs, {0: 10, 1: 11, 2: 12, 3: 94, 4: 94})
        if how == "told to end":  # as multiprocessing does with workers that the parent has left open
            for process in envs._processes:
                process.terminate()
                process.join(10.0)
    assert not list(tmp_path.iterdir())


def test_a_killed_worker_spoils_no_episode(tmp_path):
    """Episodes that ended before the kill are in the store, whole; the others are not."""
    environment = {"id": "Counting", "action": {"type": "discrete", "n": 200}, "observation_shape": [8, 1, 1]}
    store = RolloutStore.create(tmp_path / "store", environment)
    with pytest.raises(WorkerError, match="died"), closing(vector("Counting", 4)) as envs:
        for episode in play(envs, RandomBehaviour(envs.single_action_space), range(1000)):
            store.append(episode, "uniform")
            if len(store.entries) == 9:
                os.kill(envs._processes[1].pid, signal.SIGKILL)
    survivor = RolloutStore.open(store.folder)
    assert len(survivor.entries) >= 9 and survivor.verify() == []
    for entry in survivor.entries:
        assert entry.length == episode_length(entry.seed)
        assert survivor.read(entry).observation[:, 4, 0, 0].tolist() == list(range(entry.length + 1))
