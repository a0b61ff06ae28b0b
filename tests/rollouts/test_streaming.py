"""Rollouts read a chunk at a time: aligned, each once a pass, the same whatever the thread's timing, and bounded."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from test_alignment import DESCRIPTION, SETTINGS, decode, episode_lengths

from worldmodels.envs.make import make_envs
from worldmodels.envs.seeding import environment_seed
from worldmodels.errors import UserError
from worldmodels.rollouts import streaming
from worldmodels.rollouts.behaviours import RandomBehaviour
from worldmodels.rollouts.collect import play
from worldmodels.rollouts.replay import Replay, replay_of
from worldmodels.rollouts.store import Entry, RolloutStore, sources_of
from worldmodels.rollouts.streaming import StreamingReplay, episode_bytes, open_replay, spread_within
from worldmodels.stages.collect import collect
from worldmodels.stages.memory import train_mdnrnn
from worldmodels.stages.vision import train_vae
from worldmodels.tracking import Run
from worldmodels.types import Posterior

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
EPISODES = 23


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Episodes that count, 4 to 8 rows each."""
    seeds = [environment_seed("train", index) for index in range(EPISODES)]
    store = RolloutStore.create(tmp_path_factory.mktemp("store") / "counting", DESCRIPTION)
    with closing(make_envs(SETTINGS, 4, asynchronous=False)) as envs:
        for episode in play(envs, RandomBehaviour(envs.single_action_space), seeds):
            store.append(episode, "uniform")
    return sources_of([store], "train")


@pytest.fixture
def stream(sources):
    """Makes streams of three or four episodes a chunk, and sees that no thread of them stays."""
    made = []

    def make(seed=0, device="cpu", latents=None):
        made.append(StreamingReplay(sources, device, latents, 4 * max(episode_bytes(sources, latents)), seed))
        return made[-1]

    yield make
    for replay in made:
        replay.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "replay reader"]


def as_latents(sources):
    """f32 [T+1, 2, 8] of each episode: the observation itself, and a log_std of −9."""
    frames = [np.asarray(store.read(entry).observation).reshape(-1, 8).astype(np.float32) for store, entry in sources]
    return [np.stack([frame, np.full_like(frame, -9)], 1) for frame in frames]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("latent", [False, True])
def test_not_one_pair_is_misaligned(sources, stream, latent, device):
    replay = stream(device=device, latents=as_latents(sources) if latent else None)
    generator = torch.Generator(device).manual_seed(0)
    length, seeds = 5, set()
    for _ in range(60):
        window = replay.windows(8, length, generator)
        assert window.reward.device.type == device
        if latent:
            assert (window.observation.log_std == -9).all()
        observation = window.observation.mean[..., None, None] if latent else window.observation
        seed, t, before = decode(observation.cpu())
        action, reward, terminated, valid = (
            tensor.cpu() for tensor in (window.action.argmax(-1), window.reward, window.terminated, window.valid)
        )
        assert (seed == seed[0]).all(), "one episode"
        assert torch.equal(t[1:][valid], t[:-1][valid] + 1), "consecutive"
        assert torch.equal(before[1:][valid], action[valid]), "the action between them"
        assert torch.equal(reward[valid], (10 * t[:-1] + action)[valid].float())
        ends = episode_lengths(seed[0])
        assert torch.equal(valid, t[0] + torch.arange(length)[:, None] < ends), "padded only past the end"
        assert torch.equal(terminated, (t[:-1] == ends - 1) & (seed[:-1] % 2 == 0) & valid)
        seeds |= set(seed.flatten().tolist())
    assert seeds == {entry.seed for _, entry in sources}, "all were seen"


def test_windows_go_through_ends_within_a_chunk(stream):
    window = stream(latents=None).windows(50, 10, torch.Generator().manual_seed(0), through=True)
    seed, t, _ = decode(window.observation)
    assert torch.equal(window.valid, t[:-1] < episode_lengths(seed[:-1])) and (~window.valid).sum(0).amin() >= 1
    assert (seed[1:] != seed[:-1])[~window.valid].all() and torch.equal(window.first, t[:-1] == 0)


@pytest.mark.parametrize("latent", [False, True])
def test_a_pinned_chunk_is_the_same_replay(sources, latent, monkeypatch):
    """Without a GPU nothing can be pinned: a copy stands for it."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    replay = replay_of(sources, latents=as_latents(sources) if latent else None)
    moved = streaming._Pinned.of(replay).to(torch.device("cpu"))
    windows = [each.windows(50, 4, torch.Generator().manual_seed(0)) for each in (replay, moved)]
    if latent:
        windows = [window._replace(observation=torch.stack(window.observation)) for window in windows]
    assert all(torch.equal(one, other) for one, other in zip(*windows))


def test_every_episode_is_visited_once_in_each_pass(sources, stream, monkeypatch):
    chunks = []
    monkeypatch.setattr(
        streaming, "replay_of", lambda chosen, latents=None: chunks.append(chosen) or replay_of(chosen, latents=latents)
    )
    replay = stream()
    assert len(replay) == sum(entry.length + 1 for _, entry in sources)
    generator = torch.Generator().manual_seed(0)
    done = []
    while sum(len(chunk) for chunk in done) < 3 * EPISODES:
        frame = replay.frames(1, generator)  # the first draw from a chunk
        done.append(chunks[len(done)])
        rows = sum(entry.length + 1 for _, entry in done[-1])
        frames = torch.cat([frame, *(replay.frames(1, generator) for _ in range(rows - 1))])
        assert set(decode(frames)[0].tolist()) <= {entry.seed for _, entry in done[-1]}, "as many draws as rows"
        assert sum(episode_bytes(done[-1])) <= replay.chunk_bytes
    replay.close()
    assert len(chunks) == len(done) + 1, "one is read ahead, not two"
    visits = [entry.seed for chunk in done for _, entry in chunk]
    passes = [visits[start : start + EPISODES] for start in range(0, 3 * EPISODES, EPISODES)]
    everything = sorted(entry.seed for _, entry in sources)
    assert all(sorted(visited) == everything for visited in passes)
    assert passes[0] != passes[1] != passes[2], "in a new order each time"


def test_the_same_seed_draws_the_same_whatever_the_timing(sources, stream, monkeypatch):
    def drawn(seed):
        replay, generator = stream(seed), torch.Generator().manual_seed(0)
        windows = [replay.windows(3, 4, generator).observation for _ in range(30)]
        frames = [replay.frames(10, generator) for _ in range(30)]
        return torch.cat([*(window.flatten(0, 1) for window in windows), *frames])

    expected = drawn(1)

    def slow(*given, **named):
        time.sleep(0.01)
        return replay_of(*given, **named)

    monkeypatch.setattr(streaming, "replay_of", slow)
    assert torch.equal(drawn(1), expected)
    assert not torch.equal(drawn(2), expected)


def test_an_episode_larger_than_a_chunk_is_one(sources):
    with closing(StreamingReplay(sources, "cpu", None, 1)) as replay:
        generator = torch.Generator().manual_seed(0)
        for _ in range(EPISODES):
            assert len(set(decode(replay.frames(8, generator))[0].tolist())) == 1


def test_one_chunk_holds_a_pass_at_most(sources):
    with closing(StreamingReplay(sources, "cpu", None, 1 << 40)) as replay:
        replay.frames(1, torch.Generator())
        assert len(replay.chunk) == len(replay)


def bytes_within(replay):
    """Of all tensors that a Replay holds, views counted once."""
    tensors = [value.untyped_storage() for value in vars(replay).values() if isinstance(value, torch.Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in tensors}.values())


def test_the_byte_count_decides_and_is_told(sources, capsys):
    replay, size = replay_of(sources), sum(episode_bytes(sources))
    assert size == pytest.approx(bytes_within(replay), rel=0.02)
    within = open_replay(sources, budget_bytes=size)
    assert isinstance(within, Replay) and torch.equal(within.observation, replay.observation)
    assert capsys.readouterr().out == f"training data in memory: {size:,} bytes fit the budget of {size:,}\n"
    with closing(open_replay(sources, budget_bytes=size - 1)) as beyond:
        assert isinstance(beyond, StreamingReplay) and beyond.chunk_bytes == (size - 1) // 4
    (line,) = capsys.readouterr().out.splitlines()
    assert "streamed" in line and f"{size:,} bytes exceed the budget of {size - 1:,}" in line
    assert isinstance(open_replay(sources), Replay), "half of what is free is enough for this"

    latents = as_latents(sources)
    of_latents = replay_of(sources, latents=latents)
    assert sum(episode_bytes(sources, latents)) == pytest.approx(bytes_within(of_latents), rel=0.02)
    with closing(open_replay(sources, "cpu", latents, 1000)) as stream:
        assert isinstance(stream.frames(2, torch.Generator()), Posterior)


def test_free_memory_without_proc(monkeypatch):
    def missing(*_, **__):
        raise OSError

    cpu = torch.device("cpu")
    assert streaming.free_bytes(cpu) > 1 << 20
    monkeypatch.setattr(Path, "read_text", missing)
    assert streaming.free_bytes(cpu) > 1 << 20
    monkeypatch.delattr(streaming.os, "sysconf", raising=False)
    assert streaming.free_bytes(cpu) == 4 << 30


def test_validation_is_spread_evenly_within_its_budget(sources):
    sizes = episode_bytes(sources)
    assert sources[spread_within(sources)] == sources
    kept = spread_within(sources, budget_bytes=sum(sizes) // 2)
    assert len(sources[kept]) >= EPISODES // 3 and sum(sizes[kept]) <= sum(sizes) // 2
    assert sources[kept] == sources[:: kept.step]
    assert sources[spread_within(sources, budget_bytes=1)] == sources[:1]


def test_a_damaged_shard_is_told_by_the_draw(tmp_path, environment, make_episode):
    store = RolloutStore.create(tmp_path / "numbers", environment)
    for index in range(6):
        store.append(make_episode(environment_seed("train", index), 5), "held")
    (store.folder / "shards" / "000004" / "observation.npy").write_bytes(b"damaged")
    sources = sources_of([store], "train")
    with closing(StreamingReplay(sources, "cpu", None, max(episode_bytes(sources)))) as replay:
        generator = torch.Generator()
        with pytest.raises(UserError, match=r"000004 cannot be read"):
            for _ in range(6):
                replay.frames(6, generator)
        with pytest.raises(UserError, match=r"000004 cannot be read"):
            replay.frames(6, generator)
    with pytest.raises(ValueError, match="closed"):
        replay.frames(6, generator)


# polls, as the kernel keeps no peak of the anonymous memory alone
MEASURED = """
import json, sys, threading, time
import torch
from worldmodels.rollouts.replay import replay_of
from worldmodels.rollouts.store import RolloutStore, sources_of
from worldmodels.rollouts.streaming import open_replay

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))

def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.001)

torch.set_num_threads(1)
sources = sources_of([RolloutStore.open(sys.argv[1])], "train")
generator = torch.Generator().manual_seed(0)
replay_of(sources[:1]).frames(100, generator)
before = anonymous()
peak = [before]
threading.Thread(target=watch, daemon=True).start()
replay = open_replay(sources, budget_bytes=int(sys.argv[2]))
for _ in range(len(replay) // 100 + 1):
    replay.frames(100, generator)
replay.close()
print(json.dumps({"kind": type(replay).__name__, "growth": peak[0] - before}))
"""


@pytest.fixture
def large(tmp_path, environment):
    """A store of 300 MB of black frames: files of holes, which take no room on the disk."""
    shape, length = (64, 64, 3), 243
    store = RolloutStore.create(tmp_path / "large", {**environment, "observation_shape": list(shape)})
    for number in range(100):
        name = f"{number:06d}"
        folder = store.folder / "shards" / name
        folder.mkdir(parents=True)
        np.lib.format.open_memmap(folder / "observation.npy", "w+", np.uint8, (length + 1, *shape))
        np.save(folder / "action.npy", np.zeros((length, 3), np.float32))
        np.save(folder / "reward.npy", np.zeros(length, np.float32))
        seed = environment_seed("train", number)
        store.entries.append(Entry(name, seed, "none", length, 0.0, False, True, {}))
    store._write_manifest()
    return store


def test_resident_memory_stays_within_the_budget(large):
    status = Path("/proc/self/status")
    if not status.is_file() or "RssAnon" not in status.read_text():
        pytest.skip("the system does not tell anonymous memory from mapped files")

    def measured(budget, **more):
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, large.folder, str(budget)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    size, budget = sum(episode_bytes(sources_of([large], "train"))), 40_000_000
    assert size > 295_000_000
    whole = measured(size)
    assert whole["kind"] == "Replay" and whole["growth"] > size, "the measure sees what lies in memory"
    held = measured(budget, MALLOC_MMAP_THRESHOLD_="1000000")  # what is freed goes back to the system at once
    assert held["kind"] == "StreamingReplay" and held["growth"] < budget
    kept = measured(budget)
    assert kept["growth"] < budget + (64 << 20), "glibc keeps some of what is freed, however large the budget"


def test_v_and_m_learn_from_a_stream(tmp_path, blob_settings, memory_options, capsys):
    settings = {"runs": str(tmp_path / "runs"), "seed": 0, "wandb": {"mode": "disabled"}}
    store, learning = tmp_path / "blobs", {"update_steps": 4, "validations": 2, "seed": 0, "device": "cpu"}
    collect(Run("collect", settings), store, blob_settings, 6, "uniform", 0, validation_every=3)

    def trained(budget):
        model = {"latent_dim": 4, "width": 0.25}
        run = Run("train_vae", settings)
        vae = train_vae(run, [store], model=model, batch_size=8, replay_budget=budget, **learning)
        memory = train_mdnrnn(
            Run("train_mdnrnn", settings),
            [store],
            vae.artefacts["checkpoint"],
            model={"hidden_dim": 8},
            latents=tmp_path / "latents",
            replay_budget=budget and budget // 200,
            **memory_options,
            **learning,
        )
        return [vae.scores, memory.scores]

    streamed = trained(800_000)
    assert capsys.readouterr().out.count("training data streamed") == 2
    assert streamed == trained(800_000), "the same seed, the same V and M"
    capsys.readouterr()
    assert streamed != trained(None)
    assert capsys.readouterr().out.count("training data in memory") == 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
def test_a_replay_takes_no_more_than_its_data(tmp_path, environment, make_episode):
    """The budget is half of what is free: a list of episodes and its concatenation would take all of it."""
    environment["observation_shape"] = [64, 64, 3]
    store = RolloutStore.create(tmp_path / "frames", environment)
    for index in range(12):
        store.append(make_episode(environment_seed("train", index), 999, shape=(64, 64, 3)), "held")
    code = """
import re, sys
from pathlib import Path
from worldmodels.rollouts.replay import replay_of
from worldmodels.rollouts.store import RolloutStore, sources_of
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
sources = sources_of([RolloutStore.open(sys.argv[1])], "train")
before = peak()
replay = replay_of(sources)
print(peak() - before, replay.rows.nbytes)
"""
    found = subprocess.run([sys.executable, "-c", code, store.folder], capture_output=True, text=True, check=True)
    kilobytes, size = map(int, found.stdout.split())
    assert size == 12 * 1000 * 64 * 64 * 3 and kilobytes * 1024 < 1.6 * size
