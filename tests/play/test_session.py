"""A player's worlds, step by step."""

import math

import numpy as np
import pytest
import torch
from players import make_session
from saving import save_models

from worldmodels.envs.make import EnvSettings, make_env
from worldmodels.envs.spaces import action_names
from worldmodels.play.keys import action_of, keys_of
from worldmodels.stages.play import make_server
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


def test_a_jump_opens_the_real_world():
    session = make_session(real=True)
    assert session.jump(to_real=True).real is not None and session.at_real
    assert make_session().jump(to_real=True).real is None, "where there is one"


def test_a_real_episode_that_is_over_says_so():
    session = make_session(real=True)
    session.reset(0)
    session.show_real(True)
    session.jump(to_real=True)
    views = [session.step() for _ in range(30)]
    assert "over" in views[-1].ended and views[-1].step == 24, "Blob's clock"
    assert views[23].surprise is not None
    assert "over" in session.jump(to_real=False).real_ended
    dreamt = session.step()
    assert not dreamt.ended and dreamt.step == 1, "the dream goes on from there"
    assert dreamt.surprise is None
    assert dreamt.real_reward is None and "over" in dreamt.real_ended
    session.reset(0)
    assert not session.view().ended and session.step().step == 1


@pytest.mark.parametrize(
    ("space", "held", "action"),
    [
        ({"type": "box", "low": [-1, 0, 0], "high": [1, 0.5, 0.1]}, ["left", "up"], [-1, 0.5, 0]),
        ({"type": "box", "low": [-1, 0, 0], "high": [1, 0.5, 0.1]}, ["left", "right", "down"], [0, 0, 0.1]),
        ({"type": "box", "low": [-2], "high": [2]}, ["right"], [2]),
        ({"type": "box", "low": [-1, 0], "high": [1, 4]}, ["down"], [0, 0]),
        ({"type": "discrete", "n": 2}, ["right"], 1),
        ({"type": "discrete", "n": 2}, [], 0),
        ({"type": "discrete", "n": 3}, [], 0),
        ({"type": "discrete", "n": 3}, ["right", "up"], 1),
        ({"type": "discrete", "n": 3}, ["left"], 2),
        ({"type": "discrete", "n": 3}, ["up"], 0),
        ({"type": "discrete", "n": 7}, ["down"], 4),
    ],
)
def test_keys_become_actions(space, held, action):
    assert action_of(frozenset(held), space, keys_of(space)).tolist() == pytest.approx(action)


def test_a_world_says_which_keys_it_takes():
    race, one = make_session().keys, keys_of({"type": "box", "low": [-2], "high": [2]})
    assert race.does == {"left": "left", "right": "right", "up": "gas", "down": "brake"}
    assert one.does == {"left": "left", "right": "right"}
    assert keys_of({"type": "discrete", "n": 3}).does == one.does
    uneven = {"type": "box", "low": [-1, 0.1], "high": [1, 1]}
    for held, wanted in (([], [0, 0.1]), (["up"], [0, 1]), (["down", "left"], [-1, 0.1])):
        assert action_of(frozenset(held), uneven, keys_of(uneven)).tolist() == pytest.approx(wanted)
    assert keys_of({"type": "discrete", "n": 2}).idle_does == "left", "it has to do something"


@pytest.mark.parametrize(
    ("names", "does", "actions", "idle"),
    [
        (["", "move_right", "move_left"], {"left": "move left", "right": "move right"}, [2, 1], 0),
        (["fire", "left", "noop"], {"left": "left", "up": "fire"}, [1, 0], 2),
        (["up", "right", "rightfire"], {"right": "right", "up": "up", "down": "rightfire"}, [1, 0, 2], 0),
        (["", *"abcde"], {"left": "c", "right": "d", "up": "a", "down": "b"}, [3, 4, 1, 2], 0),
    ],
)
def test_keys_by_the_names_of_actions(names, does, actions, idle):
    keys = keys_of({"type": "discrete", "n": len(names)}, names)
    assert keys.does == does and [keys.action[key] for key in does] == actions and keys.idle == idle


def test_the_actions_of_a_stock_race_are_where_the_keys_say():
    """CarRacing-v3 names none of its discrete actions; by its own documentation 1 is right, 2 is left, 3 is gas."""
    env = make_env(EnvSettings("CarRacing-v3", {"continuous": False}))
    assert action_names(env) is None
    keys, steered = keys_of({"type": "discrete", "n": 5}), {}
    for key in ("left", "right"):
        env.reset(seed=0)
        for _ in range(10):
            env.step(keys.action[key])
        steered[key] = env.unwrapped.car.wheels[0].joint.angle
    env.close()
    assert steered["left"] > 0.1 and steered["right"] < -0.1, "anticlockwise is positive"


def test_discrete_actions_move_the_dream_and_the_real_world(tmp_path, blob_settings):
    """Where the square of Pushed goes says which action it was given."""
    checkpoint = save_models(tmp_path, {**blob_settings, "id": "environments:Pushed-v0"})
    session = make_server(checkpoint).make_session()
    assert session.keys.does == {"left": "left", "right": "right", "up": "fire"}
    dreams = {key: frames_of(session, 3, [key]) for key in ("left", "right", "up", "down")}
    assert len({str(z) for z in dreams.values()}) == 4
    assert dreams["down"] == frames_of(session, 3, []), "that key does nothing here"

    session.reset(3)
    session.show_real(True)
    places = [session.env.unwrapped.place]
    for held in ("left", "right", "up", "down"):
        session.held = frozenset([held])
        session.step()
        places.append(session.env.unwrapped.place)
    moves = np.diff(places, axis=0).tolist()
    assert np.allclose(moves, [[0, -3], [0, 3], [-3, 0], [0, 0]])

    session.controller_drives = True
    state = torch.cat([session.dream.z, *session.dream.memory], -1)
    before = session.env.unwrapped.place
    session.step()
    moved = (session.env.unwrapped.place - before) / 3
    assert np.allclose(moved, session.env.unwrapped.moves[int(session.act(state))]), "C sees z, h and c"
    session.close()


def test_without_its_package_a_world_is_dreamt_alone(tmp_path, blob_settings, monkeypatch, capsys):
    import sys

    checkpoint = save_models(tmp_path, {**blob_settings, "id": "environments:Pushed-v0"})
    monkeypatch.setitem(sys.modules, "environments", None)
    session = make_server(checkpoint).make_session()
    assert "without the real world" in capsys.readouterr().out and session.make_real is None
    session.show_real(True)
    assert session.env is None and session.step().step == 1


def test_take_cover(tmp_path, blob_settings):
    pytest.importorskip("vizdoom", reason="needs the extra doom")
    doom = {"id": "VizdoomTakeCover-v1", "kwargs": {"max_episode_steps": 525}, "action_repeat": 4, "frame_size": 64}
    session = make_server(save_models(tmp_path, {**blob_settings, **doom})).make_session()
    assert session.keys.does == {"left": "move left", "right": "move right"} and not session.keys.idle_does
    assert len({str(frames_of(session, 3, held)) for held in (["left"], ["right"], [])}) == 3

    session.show_real(True)
    edges = {}
    for held in ("left", "right", "up"):
        session.reset(3)
        session.held = frozenset([held])
        for _ in range(12):
            view = session.step()
        brown = (view.real[..., 0].astype(int) - view.real[..., 2])[18:25]  # the ceiling is grey, a near wall is not
        edges[held] = [side.mean() > 20 for side in (brown[:, :6], brown[:, -6:])]
    assert edges == {"left": [True, False], "right": [False, True], "up": [False, False]}

    session.reset(3)
    session.jump(to_real=True)
    session.held = frozenset()
    for _ in range(525):
        view = session.step()
        if view.ended:
            break
    assert "over" in view.ended and 1 <= view.real_reward <= 4, "of four tics it lived so many"
    assert session.step().step == view.step, "nothing moves any more"
    assert not session.reset(4).ended and session.step().step == 1
    session.close()
