"""Markov decision processes small enough for tables. S states, A actions, N outcomes of an action."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np

from ..errors import UserError


class TabularMDP(NamedTuple):
    """Every outcome of every action. An outcome with `ended` leads nowhere: no state's value follows it."""

    probability: np.ndarray  # f64 [S, A, N], Σ over N = 1
    following: np.ndarray  # i64 [S, A, N], the next state
    reward: np.ndarray  # f64 [S, A, N]
    ended: np.ndarray  # bool [S, A, N]
    start: np.ndarray  # f64 [S], the first state's distribution

    @property
    def states(self) -> int:
        return self.probability.shape[0]

    @property
    def actions(self) -> int:
        return self.probability.shape[1]

    def expected_reward(self) -> np.ndarray:
        """r(s, a) = Σ p(s′ | s, a) r(s, a, s′), f64 [S, A]."""
        return (self.probability * self.reward).sum(-1)

    def onward(self) -> np.ndarray:
        """Probability of going on in s′ after (s, a), f64 [S, A, S]; a row lacks what ends the episode."""
        result = np.zeros((self.states, self.actions, self.states))
        s, a, _ = np.indices(self.probability.shape)
        np.add.at(result, (s, a, self.following), self.probability * ~self.ended)
        return result


def check(mdp: TabularMDP) -> TabularMDP:
    """The same, if it is one. Raises ValueError for other shapes, or probabilities that do not sum to 1."""
    shape = mdp.probability.shape
    if len(shape) != 3 or any(part.shape != shape for part in mdp[1:4]) or mdp.start.shape != shape[:1]:
        raise ValueError(f"expected [S, A, N] throughout and start [S], got {[part.shape for part in mdp]}")
    for name, sums in (("probability", mdp.probability.sum(-1)), ("start", mdp.start.sum())):
        if not np.allclose(sums, 1, atol=1e-9):
            raise ValueError(f"{name} must sum to 1; found sums from {np.min(sums):g} to {np.max(sums):g}")
    if mdp.following.min() < 0 or mdp.following.max() >= shape[0]:
        raise ValueError(f"following must name states below {shape[0]}")
    return mdp


def from_gymnasium(env: gymnasium.Env) -> TabularMDP:
    """The transition table of a toy-text environment (`env.unwrapped.P`). Raises UserError where it has none."""
    unwrapped: Any = env.unwrapped
    table = getattr(unwrapped, "P", None)
    if not isinstance(table, dict):
        name = env.spec.id if env.spec else type(unwrapped).__name__
        raise UserError(f"{name} shows no transition table; choose env=frozenlake, cliffwalking or taxi")
    states, actions = len(table), len(table[0])
    most = max(len(outcomes) for row in table.values() for outcomes in row.values())
    probability, reward = (np.zeros((states, actions, most)) for _ in range(2))
    following, ended = np.zeros(probability.shape, np.int64), np.ones(probability.shape, np.bool_)
    for s, row in table.items():
        for a, outcomes in row.items():
            for n, (p, s_next, r, terminated) in enumerate(outcomes):
                probability[s, a, n], following[s, a, n] = p, s_next
                reward[s, a, n], ended[s, a, n] = r, terminated
    start = np.array(unwrapped.initial_state_distrib, np.float64)
    return check(TabularMDP(probability, following, reward, ended, start / start.sum()))


def random_walk(states: int = 5) -> TabularMDP:
    """The walk of Sutton & Barto 2018, example 6.2: left or right with equal chance, 1 for leaving at the right.

    Its single action makes both moves; the values are 1/(S+1), …, S/(S+1).
    """
    probability = np.full((states, 1, 2), 0.5)
    here = np.arange(states)
    following = np.stack([here - 1, here + 1], -1).clip(0, states - 1)[:, None]
    ended, reward = np.zeros((states, 1, 2), np.bool_), np.zeros((states, 1, 2))
    ended[0, 0, 0] = ended[-1, 0, 1] = True
    reward[-1, 0, 1] = 1.0
    return check(TabularMDP(probability, following, reward, ended, np.eye(states)[states // 2]))


def laboratory() -> TabularMDP:
    """Three states, two actions, two outcomes each, some of which end the episode: where ∇J can be computed exactly."""
    probability = np.array(
        [[[0.7, 0.3], [0.4, 0.6]], [[0.5, 0.5], [0.8, 0.2]], [[0.6, 0.4], [0.9, 0.1]]],
    )
    following = np.array([[[1, 2], [0, 2]], [[2, 0], [1, 0]], [[0, 1], [2, 1]]])
    reward = np.array([[[3.0, 1.0], [4.0, 2.0]], [[2.0, 5.0], [0.0, 3.0]], [[3.0, 3.0], [2.5, 6.0]]])
    ended = np.array(
        [[[False, False], [False, True]], [[False, True], [False, False]], [[False, False], [False, True]]]
    )
    return check(TabularMDP(probability, following, reward, ended, np.array([0.6, 0.3, 0.1])))
