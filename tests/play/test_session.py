"""A player's worlds, step by step."""

import math

import numpy as np
import pytest
import torch
from players import make_session

from worldmodels.play.session import action_of
from worldmodels.types import MemoryState


def frames_of(session, seed, held, steps=12):
    session.reset(seed)
    session.held = frozenset(held)
    return [session.step().z for _ in range(steps)]


def test_the_dream_is_its_seed_and_obeys_the_keys():
    session = make_session()
    left = frames_of(session, 3, ["left"])
    assert left == frames_of(session, 3, ["left"]), "same seed, same keys, same dream"
    right, nothing = frames_of(session, 3, ["right"]), frames_of(session, 3, [])
    assert left != right and left != nothing and right != nothing
    assert left != frames_of(session, 4, ["left"])


def test_low_seeds_begin_where_m_expects_most_of_the_road():
    session = make_session()
    contexts = session.contexts
    expected, _ = session.network(contexts.observation.mean[:-1], contexts.action, contexts.first)
    order = expected.reward.sum(0).argsort(descending=True).tolist()
    assert len(set(order)) == 5
    for seed, context in ((0, order[0]), (1, order[1]), (5, order[0])):
        begun = torch.tensor(session.reset(seed).z)
        distances = (session.contexts.observation.mean[-1] - begun).norm(dim=1)
        assert int(distances.argmin()) == context


def test_a_step_is_m_s_forecast():
    session = make_session()
    session.reset(2)
    before = session.dream
    session.held = frozenset(["right", "up"])
    view = session.step()
    action = torch.tensor([[1.0, 1.0, 0.0]])
    after = session.network.step(before.z, action, torch.tensor([False]), before.memory)
    forecast = session.network.predict(after.h)
    assert view.reward == pytest.approx(float(forecast.reward)) and view.total == pytest.approx(view.reward)
    assert view.end == pytest.approx(float(torch.sigmoid(forecast.terminated_logit)))
    assert torch.equal(session.dream.memory.h, after.h)
    assert view.dream.shape == (64, 64, 3) and view.dream.dtype == np.uint8
    assert view.real is view.seen is view.surprise is None


def test_a_latent_that_is_held_stays_and_shows():
    session = make_session()
    plain = session.reset(0)
    held = session.set_latent(2, 3.5)
    assert held.z[2] == 3.5 and not np.array_equal(held.dream, plain.dream)
    assert [session.step().z[2] for _ in range(3)] == [3.5] * 3
    session.set_latent(2, None)
    assert session.step().z[2] != 3.5


def test_temperature_widens_the_dream():
    session = make_session()
    spread = []
    for temperature in (0.1, 1.0):
        ends = []
        for seed in range(0, 200, 5):  # one start, forty draws
            session.reset(seed)
            session.temperature, session.dream = temperature, session.dream._replace(z=torch.zeros(1, 4))
            ends.append(session.step().z)
        spread.append(np.std(ends, axis=0).mean())
    assert spread[0] < 0.6 * spread[1]


def test_the_horizon_ends_a_dream_and_nothing_moves_until_it_begins_again():
    session = make_session()
    session.reset(1)
    session.horizon = 3
    views = [session.step() for _ in range(5)]
    assert [view.step for view in views] == [1, 2, 3, 3, 3]
    assert [bool(view.ended) for view in views] == [False, False, True, True, True]
    assert not session.reset(1).ended and session.step().step == 1


def test_the_dream_ends_when_m_believes_so():
    session = make_session()
    with torch.no_grad():
        session.network.heads.bias[-1] = 20
    session.reset(1)
    assert "end" in session.step().ended


def test_the_controller_sees_the_world_that_it_drives():
    seen = []

    def act(state):
        seen.append(state)
        return torch.tensor([[0.25, 0.5, 0.0]])

    session = make_session(real=True, act=act)
    session.reset(0)
    session.step()
    assert not seen, "a person is at the wheel"
    session.controller_drives = True
    dream = session.dream
    session.step()
    assert torch.equal(seen[-1], torch.cat([dream.z, dream.memory.h], -1))
    session.show_real(True)
    session.jump(to_real=True)
    real = session.real
    session.step()
    assert torch.equal(seen[-1], torch.cat([real.z, real.memory.h], -1))


def test_the_real_world_beside_the_dream():
    session = make_session(real=True)
    session.reset(7)
    view = session.show_real(True)
    assert view.real.shape == view.seen.shape == (64, 64, 3)
    assert torch.equal(session.dream.z, session.real.z), "both begin at the same place"
    assert np.array_equal(view.real, session.make_real().reset(seed=7)[0])
    peer = session.make_real()
    peer.reset(seed=7)
    session.held = frozenset(["left"])
    before = session.real
    view = session.step()
    frame, reward, *_ = peer.step(np.array([-1, 0, 0], np.float32))
    assert np.array_equal(view.real, frame) and view.real_reward == reward
    # surprise by hand: −log of the mixture's density at the real next z
    after = session.network.step(before.z, torch.tensor([[-1.0, 0, 0]]), torch.tensor([True]), before.memory)
    logits, mean, log_std = session.network.predict(after.h).next_z
    normal = torch.distributions.Normal(mean, log_std.exp())
    joint = torch.log_softmax(logits, -1) + normal.log_prob(session.real.z.unsqueeze(-1))
    assert view.surprise == pytest.approx(-float(joint.logsumexp(-1).mean()), rel=1e-4)
    assert math.isfinite(view.surprise)
    session.show_real(False)
    assert session.env is None and session.view().real is None


def test_jumping_takes_the_dream_to_where_the_real_world_stands():
    session = make_session(real=True)
    session.reset(0)
    session.show_real(True)
    session.held = frozenset(["right"])
    for _ in range(4):
        session.step()
    assert not torch.equal(session.dream.z, session.real.z), "the dream has gone its own way"
    session.jump(to_real=True)
    still = session.dream
    session.step()
    assert session.dream is still, "the dream waits while the real world is driven"
    session.jump(to_real=False)
    assert torch.equal(session.dream.z, session.real.z)
    assert isinstance(session.dream.memory, MemoryState) and torch.equal(session.dream.memory.h, session.real.memory.h)


def test_a_dream_after_a_jump_has_its_whole_horizon():
    session = make_session(real=True)
    session.reset(0)
    session.show_real(True)
    session.jump(to_real=True)
    session.horizon = 5
    views = [session.step() for _ in range(8)]
    assert not views[-1].ended and views[-1].total == pytest.approx(sum(view.reward for view in views))
    session.jump(to_real=False)
    assert [bool(session.step().ended) for _ in range(5)] == [False] * 4 + [True]


def test_beside_each_other_both_worlds_begin_at_the_same_place():
    session = make_session(real=True)
    session.show_real(True)
    session.reset(9)
    assert torch.equal(session.dream.z, session.real.z)


def test_a_real_episode_that_is_over_says_so():
    session = make_session(real=True)
    session.reset(0)
    session.show_real(True)
    session.jump(to_real=True)
    views = [session.step() for _ in range(30)]
    assert "over" in views[-1].ended and views[-1].step == 24, "Blob's clock"
    session.reset(0)
    assert not session.view().ended and session.step().step == 1


@pytest.mark.parametrize(
    ("space", "held", "action"),
    [
        ({"type": "box", "low": [-1, 0, 0], "high": [1, 0.5, 0.1]}, ["left", "up"], [-1, 0.5, 0]),
        ({"type": "box", "low": [-1, 0, 0], "high": [1, 0.5, 0.1]}, ["left", "right", "down"], [0, 0, 0.1]),
        ({"type": "box", "low": [-2], "high": [2]}, ["right"], [2]),
        ({"type": "box", "low": [-1, 0], "high": [1, 4]}, ["down"], [0, 0]),
        ({"type": "discrete", "n": 3}, [], 0),
        ({"type": "discrete", "n": 3}, ["right", "up"], 2),
        ({"type": "discrete", "n": 3}, ["up"], 0),
    ],
)
def test_keys_become_actions(space, held, action):
    assert action_of(frozenset(held), space).tolist() == pytest.approx(action)
