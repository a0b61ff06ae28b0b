import numpy as np
import pytest
from gymnasium import spaces

from worldmodels.errors import UserError
from worldmodels.rollouts.behaviours import BEHAVIOURS, Brownian, Held, make_behaviour

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
