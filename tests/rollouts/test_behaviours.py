import numpy as np
import pytest
from gymnasium import spaces

from worldmodels.errors import UserError
from worldmodels.rollouts.behaviours import BEHAVIOURS, Brownian, Exploration, Held, make_behaviour

BOX = spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))


def rollout(behaviour, seeds, steps=200):
    behaviour.begin(dict(enumerate(seeds)))
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (steps, 64, 64, 3), dtype=np.uint8)
    return np.stack([behaviour(np.stack([frame] * len(seeds))) for frame in frames])


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_actions_fill_the_range_and_stay_inside(name):
    box = spaces.Box(np.array([-0.5, 0.1, 0.0], np.float32), np.array([0.5, 1.0, 0.2], np.float32))
    actions = rollout(BEHAVIOURS[name](box), range(20))
    assert actions.shape == (200, 20, 3) and actions.dtype == np.float32
    assert (actions >= box.low).all() and (actions <= box.high).all()
    # a network sees noise frames here, which are alike once coarse: it varies between episodes, less within
    assert (np.ptp(actions, (0, 1)) > (0.4 if name == "network" else 0.9) * (box.high - box.low)).all()


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_an_episode_is_the_same_in_any_vector(name):
    alone = rollout(BEHAVIOURS[name](BOX), [7])
    among = rollout(BEHAVIOURS[name](BOX), [3, 7, 9])
    assert np.array_equal(alone[:, 0], among[:, 1])
    assert not np.array_equal(among[:, 0], among[:, 1])


def test_brownian_noise_is_smooth_and_uniform():
    actions = rollout(Brownian(BOX, step=0.1), range(200), steps=400)[..., 0]
    assert np.abs(np.diff(actions, axis=0)).max() < 0.6, "six standard deviations of a step"
    # a reflected walk that starts uniform stays uniform on [-1, 1]: variance 1/3
    assert abs(actions.mean()) < 0.1 and abs(actions.var() - 1 / 3) < 0.04


def test_held_actions_change_every_so_many_steps():
    actions = rollout(Held(BOX, hold=5), [0], steps=100)[:, 0, 0]
    changed = np.flatnonzero(np.diff(actions)) + 1
    assert changed.tolist() == list(range(5, 100, 5))


@pytest.mark.parametrize("name", ["uniform", "held", "network"])
def test_discrete_actions(name):
    actions = rollout(BEHAVIOURS[name](spaces.Discrete(4)), range(20))
    assert actions.dtype == np.int64 and set(np.unique(actions)) == {0, 1, 2, 3}


def test_what_cannot_be_explored():
    with pytest.raises(UserError, match="held"):
        Brownian(spaces.Discrete(4))
    with pytest.raises(UserError, match="brownian, held"):
        make_behaviour("wild", BOX)
    with pytest.raises(UserError, match="bounded"):
        Held(spaces.Box(-np.inf, np.inf, (2,)))


UNEVEN = {"type": "box", "low": [-1.0, 0.0], "high": [1.0, 0.5]}


def disturbed(noise, correlation, steps=4000, space=UNEVEN):
    """What one episode adds to actions in the middle of the range, in half-widths."""
    explore = Exploration(space, noise, correlation)
    explore.begin({0: 7})
    middle = (np.array(space["low"]) + space["high"]) / 2
    half = (np.array(space["high"]) - space["low"]) / 2
    return np.stack([explore(middle[None].astype(np.float32))[0] - middle for _ in range(steps)]) / half


def test_noise_lasts_as_long_as_it_is_told_to():
    """An autoregression with coefficient ρ: deviation σ at every step, correlation ρ after one, ρ² after two."""
    added = disturbed([0.1, 0.2], 0.9)
    assert added.std(0) == pytest.approx([0.1, 0.2], rel=0.15)
    for lag, wanted in ((1, 0.9), (2, 0.81)):
        for part in added.T:
            assert np.corrcoef(part[:-lag], part[lag:])[0, 1] == pytest.approx(wanted, abs=0.03)
    fresh = disturbed(0.2, 0.0)
    assert abs(np.corrcoef(fresh[:-1, 0], fresh[1:, 0])[0, 1]) < 0.05
    kept = disturbed(0.2, 1.0, steps=50)
    assert np.allclose(kept, kept[0], atol=1e-6) and abs(kept[0, 0]) > 1e-3
    assert abs(disturbed([0.0, 0.3], 0.5)[:, 0]).max() == 0


def test_noise_begins_anew_with_each_episode():
    explore = Exploration(UNEVEN, 0.2, 1.0)
    middle = np.array([[0.0, 0.25]] * 2, np.float32)
    explore.begin({0: 1, 1: 2})
    first = explore(middle)
    explore.begin({1: 1})
    second = explore(middle)
    assert np.array_equal(second[0], first[0]) and np.array_equal(second[1], first[0])
    assert not np.array_equal(first[0], first[1])
    assert np.array_equal(middle, [[0.0, 0.25]] * 2), "what C chose stays as it was"


@pytest.mark.parametrize(
    "space, noise, correlation, message",
    [
        (UNEVEN, [0.1, 0.2, 0.3], 0.0, "a number, or one for each of 2 actions"),
        (UNEVEN, -0.1, 0.0, "collect.noise=-0.1 must be at least 0"),
        (UNEVEN, 0.1, 1.5, "collect.noise_correlation=1.5 must be from 0 to 1"),
        ({"type": "discrete", "n": 3}, 0.1, 0.5, "and 0 for discrete actions"),
        ({"type": "discrete", "n": 3}, [0.1, 0.1], 0.0, "one for each of 1 actions"),
    ],
)
def test_other_noise_is_refused(space, noise, correlation, message):
    with pytest.raises(UserError, match=message):
        Exploration(space, noise, correlation)
