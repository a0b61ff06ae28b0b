"""Values from experience alone: Monte Carlo, TD(0) and Q-learning (Sutton & Barto 2018, chapters 5 and 6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .mdp import TabularMDP


class Transition(NamedTuple):
    state: int
    action: int
    reward: float
    following: int
    ended: bool


class Sampler:
    """Draws from an MDP. Tables of cumulative probabilities make a draw one comparison."""

    def __init__(self, mdp: TabularMDP, seed: int):
        self.mdp, self.random = mdp, np.random.default_rng(seed)
        self.cumulative = mdp.probability.cumsum(-1)
        self.starts = mdp.start.cumsum()

    def start(self) -> int:
        return min(int(np.searchsorted(self.starts, self.random.random(), "right")), self.mdp.states - 1)

    def choose(self, weights: np.ndarray) -> int:
        """An action by its probabilities [A]."""
        return min(int(np.searchsorted(weights.cumsum(), self.random.random(), "right")), len(weights) - 1)

    def step(self, state: int, action: int) -> Transition:
        row = self.cumulative[state, action]
        n = min(int(np.searchsorted(row, self.random.random(), "right")), len(row) - 1)
        at = (state, action, n)
        return Transition(
            state, action, float(self.mdp.reward[at]), int(self.mdp.following[at]), bool(self.mdp.ended[at])
        )

    def episode(self, policy: np.ndarray, most: int) -> list[Transition]:
        """From a start to the end, or to `most` steps."""
        state, steps = self.start(), []
        while len(steps) < most:
            steps.append(self.step(state, self.choose(policy[state])))
            if steps[-1].ended:
                break
            state = steps[-1].following
        return steps


def _check(step_size: float, episodes: int) -> None:
    if not 0 < step_size <= 1:
        raise UserError(f"step_size must lie above 0 and not above 1, not {step_size}")
    if episodes < 1:
        raise UserError(f"episodes must be at least 1, not {episodes}")


def sampled_policy_evaluation(
    mdp: TabularMDP,
    policy: np.ndarray,
    episodes: int,
    discount: float = 1.0,
    step_size: float | None = None,
    initial: float = 0.0,
    seed: int = 0,
    most: int = 10_000,
) -> Iterator[np.ndarray]:
    """Every-visit Monte Carlo: V(s) moves towards the return that followed. Yields V [S] after each episode.

    step_size: constant α (Sutton & Barto, eq. 6.1), or None for the mean over all visits.
    """
    _check(step_size or 1.0, episodes)
    sampler, value = Sampler(mdp, seed), np.full(mdp.states, initial)
    visits = np.zeros(mdp.states)
    for _ in range(episodes):
        following = 0.0
        for step in reversed(sampler.episode(policy, most)):
            following = step.reward + discount * following
            visits[step.state] += 1
            value[step.state] += (step_size or 1 / visits[step.state]) * (following - value[step.state])
        yield value.copy()


def temporal_difference(
    mdp: TabularMDP,
    policy: np.ndarray,
    episodes: int,
    discount: float = 1.0,
    step_size: float = 0.1,
    initial: float = 0.0,
    seed: int = 0,
    most: int = 10_000,
) -> Iterator[np.ndarray]:
    """TD(0): V(s) ← V(s) + α [r + γ V(s′) − V(s)] (Sutton & Barto, eq. 6.2). Yields V [S] after each episode."""
    _check(step_size, episodes)
    sampler, value = Sampler(mdp, seed), np.full(mdp.states, initial)
    for _ in range(episodes):
        state = sampler.start()
        for _ in range(most):
            step = sampler.step(state, sampler.choose(policy[state]))
            target = step.reward + (0.0 if step.ended else discount * value[step.following])
            value[state] += step_size * (target - value[state])
            if step.ended:
                break
            state = step.following
        yield value.copy()


def q_learning(
    mdp: TabularMDP,
    episodes: int,
    discount: float = 1.0,
    step_size: float = 0.1,
    exploration: float = 0.1,
    initial: float = 0.0,
    seed: int = 0,
    most: int = 10_000,
) -> Iterator[tuple[np.ndarray, float]]:
    """Q(s, a) ← Q(s, a) + α [r + γ maxₐ′ Q(s′, a′) − Q(s, a)], acting ε-greedily (Watkins 1989; Sutton & Barto, 6.8).

    Yields Q [S, A] and the episode's return after each episode. Ties between best actions are broken by chance.
    """
    _check(step_size, episodes)
    if not 0 <= exploration <= 1:
        raise UserError(f"exploration must lie between 0 and 1, not {exploration}")
    sampler, q = Sampler(mdp, seed), np.full((mdp.states, mdp.actions), initial)
    random = sampler.random
    for _ in range(episodes):
        state, total = sampler.start(), 0.0
        for _ in range(most):
            if random.random() < exploration:
                action = int(random.integers(mdp.actions))
            else:
                best = np.flatnonzero(q[state] == q[state].max())
                action = int(best[random.integers(len(best))])
            step = sampler.step(state, action)
            target = step.reward + (0.0 if step.ended else discount * q[step.following].max())
            q[state, action] += step_size * (target - q[state, action])
            total += step.reward
            if step.ended:
                break
            state = step.following
        yield q.copy(), total
