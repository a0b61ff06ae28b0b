import gymnasium
import numpy as np
import pytest

from worldmodels.errors import UserError
from worldmodels.tabular.learning import Sampler, q_learning, sampled_policy_evaluation, temporal_difference
from worldmodels.tabular.mdp import from_gymnasium, random_walk
from worldmodels.tabular.planning import value_iteration

TRUE = np.arange(1, 6) / 6  # of the random walk


def last(values):
    return list(values)[-1]


def rms_curve(learn, step_size, runs=100, episodes=100):
    """RMS error over the five states, mean over runs, after each episode (Sutton & Barto 2018, example 6.2)."""
    errors = []
    for seed in range(runs):
        values = np.array(
            list(learn(random_walk(), np.ones((5, 1)), episodes, 1.0, seed=seed, initial=0.5, step_size=step_size))
        )
        errors.append(np.sqrt(((values - TRUE) ** 2).mean(1)))
    return np.mean(errors, 0)


def test_td0_finds_the_random_walk_s_values():
    found = np.mean(
        [last(temporal_difference(random_walk(), np.ones((5, 1)), 3000, step_size=0.01, seed=s)) for s in range(4)], 0
    )
    assert np.abs(found - TRUE).max() < 0.03


def test_monte_carlo_finds_the_random_walk_s_values():
    found = last(sampled_policy_evaluation(random_walk(), np.ones((5, 1)), 20_000))
    assert np.abs(found - TRUE).max() < 0.02


def test_td0_on_the_way_by_hand():
    """From ½ everywhere and α = 0.1, the first episode changes the state it ends in alone: to 0.45 or to 0.55."""
    (value,) = temporal_difference(random_walk(), np.ones((5, 1)), 1, step_size=0.1, initial=0.5, seed=3)
    changed = np.flatnonzero(value != 0.5)
    assert (changed.tolist(), value[changed].tolist()) in [([0], [0.45]), ([4], [0.55])]


def test_rms_curves_are_those_of_the_book():
    """Example 6.2, right: from 0.24 on; TD(0) with α = 0.05 ends near 0.04, with 0.15 it is fast and then worse; Monte
    Carlo with α = 0.01 lags far behind."""
    begin = np.sqrt(((0.5 - TRUE) ** 2).mean())
    assert begin == pytest.approx(0.2357, abs=1e-4)
    slow, fast = rms_curve(temporal_difference, 0.05), rms_curve(temporal_difference, 0.15)
    monte_carlo = rms_curve(sampled_policy_evaluation, 0.01)
    assert slow[-1] == pytest.approx(0.04, abs=0.01)
    assert fast[20] < slow[20] and fast[-1] > slow[-1] + 0.02
    assert monte_carlo[-1] > slow[-1] + 0.03 and monte_carlo[0] < begin


def test_q_learning_walks_beside_the_cliff():
    mdp = from_gymnasium(gymnasium.make("CliffWalking-v1"))
    q, _ = last(q_learning(mdp, 2000, step_size=0.5, exploration=0.1, seed=1))
    best = value_iteration(mdp)
    assert mdp.start @ q.max(1) == pytest.approx(-13, abs=0.01)
    state, steps, sampler = 36, 0, Sampler(mdp, 0)
    while steps < 50:
        step = sampler.step(state, int(q[state].argmax()))
        state, steps = step.following, steps + 1
        if step.ended:
            break
    assert steps == 13 and best.value[36] == -13


def test_draws_follow_the_table():
    """Slippery ice: three outcomes of a third each, within four standard errors of 9,000 draws."""
    mdp = from_gymnasium(gymnasium.make("FrozenLake-v1"))
    sampler = Sampler(mdp, 0)
    followers = [sampler.step(6, 1).following for _ in range(9000)]
    counts = np.bincount(followers, minlength=16)
    assert set(np.flatnonzero(counts)) == {5, 10, 7}
    assert np.abs(counts[[5, 10, 7]] / 9000 - 1 / 3).max() < 4 * np.sqrt(2 / 9 / 9000)


def test_bad_arguments_are_refused():
    for wrong, match in (
        ({"step_size": 0.0}, "step_size"),
        ({"episodes": 0}, "episodes"),
        ({"exploration": 2.0}, "exploration"),
    ):
        with pytest.raises(UserError, match=match):
            last(q_learning(random_walk(), **{"episodes": 1, **wrong}))
