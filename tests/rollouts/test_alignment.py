"""From the environment to the training window: not one pair misaligned, not one across episodes."""

from contextlib import closing

import numpy as np
import pytest
import torch
from environments import episode_length

from worldmodels.envs.make import EnvSettings, make_envs
from worldmodels.envs.seeding import environment_seed
from worldmodels.rollouts.behaviours import RandomBehaviour
from worldmodels.rollouts.collect import play
from worldmodels.rollouts.latents import encode_store
from worldmodels.rollouts.replay import replay_of
from worldmodels.rollouts.store import RolloutStore, sources_of
from worldmodels.types import Posterior

SETTINGS = EnvSettings("environments:Counting-v0", {})
DESCRIPTION = {**SETTINGS.describe(), "action": {"type": "discrete", "n": 200}, "observation_shape": [8, 1, 1]}


def decode(observation) -> tuple:
    """seed, t and the action before, from observations [..., 8, 1, 1] or latents [..., 8]."""
    word = torch.as_tensor(np.array(observation)).long().reshape(*observation.shape[:-3], 8)
    seed = sum(word[..., byte] << (24 - 8 * byte) for byte in range(4))
    return seed, word[..., 4], word[..., 5]


@pytest.fixture(scope="module", params=[False, True], ids=["sync", "async"])
def store(request, tmp_path_factory):
    seeds = [environment_seed("train", index) for index in range(19)] + [environment_seed("validation", 0)]
    target = RolloutStore.create(tmp_path_factory.mktemp("store") / "counting", DESCRIPTION)
    with closing(make_envs(SETTINGS, 4, asynchronous=request.param)) as envs:
        for episode in play(envs, RandomBehaviour(envs.single_action_space), seeds):
            target.append(episode, "uniform")
    assert sorted(entry.seed for entry in target.entries) == sorted(seeds)
    return RolloutStore.open(target.folder)


def test_episodes_on_disk(store):
    kinds = set()
    for entry in store.entries:
        episode = store.read(entry)
        seed, t, before = decode(episode.observation)
        length = episode_length(entry.seed)
        assert (seed == entry.seed).all() and t.tolist() == list(range(length + 1))
        assert before[1:].tolist() == episode.action.tolist(), "action[t] leads to observation[t + 1]"
        assert before[0] == 255
        assert episode.reward.tolist() == [10 * step + action for step, action in enumerate(episode.action)]
        assert (entry.terminated, entry.truncated) == (entry.seed % 2 == 0, entry.seed % 2 == 1)
        kinds.add(entry.terminated)
    assert kinds == {True, False}, "both kinds of ends were seen"


@pytest.mark.parametrize("length", [1, 2, 5, 9])
@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("overhang", [False, True])
def test_windows(store, length, latent, overhang, tmp_path):
    sources = sources_of([store], "train")
    latents = None
    if latent:  # a V whose mean is the observation itself
        encoded = encode_store(
            store,
            lambda frame: Posterior(frame.reshape(-1, 8).float(), torch.full((len(frame), 8), -9.0)),
            "a" * 64,
            tmp_path,
            lambda frames: None,
            batch_size=3,
        )
        latents = [encoded[entry.shard] for _, entry in sources]
    replay = replay_of(sources, latents=latents)
    window = replay.windows(400, length, torch.Generator().manual_seed(0), overhang)
    observation = window.observation.mean[..., None, None] if latent else window.observation
    assert observation.shape[:2] == (length + 1, 400) and window.action.shape == (length, 400, 200)
    seed, t, before = decode(observation)
    valid = window.valid
    action = window.action.argmax(-1)
    assert (seed == seed[0]).all(), "one episode"
    assert torch.equal(t[1:][valid], t[:-1][valid] + 1), "consecutive"
    assert torch.equal(before[1:][valid], action[valid]), "the action between them"
    assert torch.equal(window.reward[valid], (10 * t[:-1] + action)[valid].float())
    ends = episode_lengths(seed[0])
    assert torch.equal(window.terminated, (t[:-1] == ends - 1) & (seed[:-1] % 2 == 0) & valid)
    assert torch.equal(window.first[valid], (t[:-1] == 0)[valid])
    within = t[0] + torch.arange(length)[:, None] < ends
    if overhang:
        assert (valid[1:] <= valid[:-1]).all() and (valid <= within).all() and (valid != within).any() == (length > 1)
    else:
        assert torch.equal(valid, within), "padded only past the end"
    assert valid[0].all()
    if length <= 2 and not overhang:
        assert valid.all(), "windows that fit are never padded"


def episode_lengths(seed: torch.Tensor) -> torch.Tensor:
    return 3 + seed % 5


def test_a_window_starts_anywhere_with_equal_chance(store):
    replay = replay_of(sources_of([store], "train"))
    window = replay.windows(20_000, 3, torch.Generator().manual_seed(1))
    seed, t, _ = decode(window.observation[0])
    _, counts = torch.unique(seed * 16 + t, return_counts=True)
    starts = sum(episode_length(entry.seed) - 2 for _, entry in sources_of([store], "train"))
    assert len(counts) == starts
    expected = 20_000 / starts
    assert ((counts - expected).abs() < 5 * expected**0.5).all()


@pytest.mark.parametrize("length", [3, 20])
def test_windows_that_may_hang_over_draw_every_step_with_equal_chance(store, length):
    """Without, the last step of an episode that is longer than the window lies in one of its windows alone."""
    sources = sources_of([store], "train")
    window = replay_of(sources).windows(20_000, length, torch.Generator().manual_seed(1), overhang=True)
    seed, t, _ = decode(window.observation[:-1])
    _, counts = torch.unique((seed * 16 + t)[window.valid], return_counts=True)
    steps = [episode_length(entry.seed) for _, entry in sources]
    assert len(counts) == sum(steps)
    # of an episode of n steps n + length − 1 windows are as likely, and each step lies in `length` of them
    expected = 20_000 * length / sum(n + length - 1 for n in steps)
    assert ((counts - expected).abs() < 5 * expected**0.5).all()
    ends = (t == episode_lengths(seed) - 1) & (seed % 2 == 0) & window.valid
    assert torch.equal(window.terminated, ends)


@pytest.mark.parametrize("length", [3, 20])
def test_windows_that_go_through_ends(store, length):
    """Row by row as the episodes lie one behind another; the row behind an episode's last step is none."""
    sources = sources_of([store], "train")
    replay = replay_of(sources)
    window = replay.windows(20_000, length, torch.Generator().manual_seed(1), through=True)
    seed, t, before = decode(window.observation)
    valid, following = window.valid, [entry.seed for _, entry in sources]
    after = torch.tensor([following[(following.index(int(one)) + 1) % len(following)] for one in seed.flatten()])
    after = after.view_as(seed)
    assert torch.equal(valid, t[:-1] < episode_lengths(seed[:-1])) and bool(valid.any()) and not bool(valid.all())
    assert torch.equal(seed[1:][valid], seed[:-1][valid]) and torch.equal(t[1:][valid], t[:-1][valid] + 1)
    assert torch.equal(seed[1:][~valid], after[:-1][~valid]) and not t[1:][~valid].any()
    assert torch.equal(before[1:][valid], window.action.argmax(-1)[valid])
    assert torch.equal(window.first, t[:-1] == 0)
    assert torch.equal(window.terminated, (t[:-1] == episode_lengths(seed[:-1]) - 1) & (seed[:-1] % 2 == 0))
    _, counts = torch.unique(seed[0] * 16 + t[0], return_counts=True)
    assert len(counts) == len(replay) - length
    expected = 20_000 / len(counts)
    assert ((counts - expected).abs() < 5 * expected**0.5).all()
    padded, plain = (replay.windows(9, 500, torch.Generator().manual_seed(1), through=one) for one in (True, False))
    assert torch.equal(padded.valid, plain.valid) and torch.equal(padded.observation, plain.observation)


def test_windows_of_which_the_first_steps_must_lie_within_the_episode(store):
    sources = sources_of([store], "train")
    replay = replay_of(sources)
    window = replay.windows(20_000, 6, torch.Generator().manual_seed(1), inside=4)
    seed, t, _ = decode(window.observation)
    ends = episode_lengths(seed[0])
    assert torch.equal(window.valid, t[0] + torch.arange(6)[:, None] < ends) and window.valid[:4].all()
    assert torch.equal(window.terminated, (t[:-1] == ends - 1) & (seed[:-1] % 2 == 0) & window.valid)
    _, counts = torch.unique(seed[0] * 16 + t[0], return_counts=True)
    starts = sum(max(episode_length(entry.seed) - 3, 0) for _, entry in sources)
    assert len(counts) == starts, "episodes of three steps have none"
    expected = 20_000 / starts
    assert ((counts - expected).abs() < 5 * expected**0.5).all()
    with pytest.raises(ValueError, match="no episode has 8 steps; the longest has 7"):
        replay.windows(1, 9, torch.Generator(), inside=8)
