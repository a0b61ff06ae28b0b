import time

import gymnasium
import numpy as np
import pytest

from worldmodels.errors import UserError
from worldmodels.tabular.mdp import TabularMDP, check, from_gymnasium, random_walk
from worldmodels.tabular.planning import (
    action_values,
    greedy_policy,
    policy_evaluation,
    policy_iteration,
    q_value_iteration,
    value_iteration,
)

SOLVERS = [value_iteration, q_value_iteration, policy_iteration]
# values of the start at γ = 1
KNOWN = [
    ("FrozenLake-v1", {"map_name": "4x4"}, 0.8235294),  # 14/17
    ("FrozenLake-v1", {"map_name": "8x8"}, 1.0),
    ("CliffWalking-v1", {}, -13.0),
    ("CliffWalking-v1", {"is_slippery": True}, -64.709176),
    ("Taxi-v4", {}, 7.93),
]


def two_states(reward_of_staying=0.0):
    """State 0: stay (action 0), or leave for state 1 (action 1) at −1. State 1: both actions end, with 3 and 5."""
    probability = np.ones((2, 2, 1))
    following = np.array([[[0], [1]], [[1], [1]]])
    reward = np.array([[[reward_of_staying], [-1.0]], [[3.0], [5.0]]])
    ended = np.array([[[False], [False]], [[True], [True]]])
    return check(TabularMDP(probability, following, reward, ended, np.array([1.0, 0.0])))


@pytest.mark.parametrize("solve", SOLVERS)
def test_by_hand(solve):
    """γ = 0.9: V(1) = 5, V(0) = −1 + 0.9 · 5 = 3.5; Q(0, stay) = 0.9 · 3.5."""
    solution = solve(two_states(), 0.9)
    assert solution.value == pytest.approx([3.5, 5.0])
    assert solution.action_value == pytest.approx(np.array([[3.15, 3.5], [3.0, 5.0]]))
    assert solution.policy.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("name, kwargs, start", KNOWN)
def test_gymnasium_s_toys_agree_with_a_linear_solve(solve, name, kwargs, start):
    mdp = from_gymnasium(gymnasium.make(name, **kwargs))
    began = time.perf_counter()
    solution = solve(mdp)
    assert time.perf_counter() - began < 2
    assert mdp.start @ solution.value == pytest.approx(start, abs=1e-6)
    exact = policy_evaluation(mdp, solution.policy)
    assert np.abs(solution.value - exact).max() < 1e-6, "the policy is worth what its values say"
    assert np.abs(action_values(mdp, exact, 1.0).max(1) - exact).max() < 1e-6, "and no action improves on it"


def test_policy_evaluation_of_the_uniform_policy():
    """γ = 0.9: V(1) = 4; V(0) = ½ · 0.9 V(0) + ½ (−1 + 0.9 · 4) → V(0) = 1.3/0.55."""
    value = policy_evaluation(two_states(), np.full((2, 2), 0.5), 0.9)
    assert value == pytest.approx([1.3 / 0.55, 4.0])
    assert policy_evaluation(random_walk(), np.ones((5, 1))) == pytest.approx(np.arange(1, 6) / 6)


def test_among_equally_good_actions_the_one_that_ends():
    """At γ = 1 and a free way out, staying is as good as leaving; only leaving ever gets there."""
    mdp = two_states()
    q = np.array([[5.0, 5.0], [5.0, 5.0]])
    assert greedy_policy(mdp, q)[0].tolist() == [0, 1]
    q[0, 0] = 5.1
    assert greedy_policy(mdp, q)[0].tolist() == [1, 0], "a better one is taken"


def test_what_never_ends_is_worth_nothing_or_refused():
    staying = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert policy_evaluation(two_states(), staying).tolist() == [0.0, 5.0]
    with pytest.raises(UserError, match="goes on for ever and collects rewards"):
        policy_evaluation(two_states(reward_of_staying=-1.0), staying)
    with pytest.raises(UserError, match="still move after 50 sweeps"):
        value_iteration(two_states(reward_of_staying=1.0), 1.0, most=50)


def test_bad_tables_are_refused():
    mdp = two_states()
    with pytest.raises(ValueError, match="must sum to 1"):
        check(mdp._replace(probability=mdp.probability / 2))
    with pytest.raises(ValueError, match=r"expected \[S, A, N\]"):
        check(mdp._replace(reward=mdp.reward[0]))
    with pytest.raises(ValueError, match="states below 2"):
        check(mdp._replace(following=mdp.following + 1))
    with pytest.raises(UserError, match="CartPole-v1 shows no transition table"):
        from_gymnasium(gymnasium.make("CartPole-v1"))
    with pytest.raises(UserError, match="discount must lie between 0 and 1"):
        policy_iteration(mdp, 1.5)
