"""Values and policies from a known MDP: dynamic programming (Bellman 1957; Howard 1960; Sutton & Barto 2018, ch. 4).

A policy is f64 [S, A], the probability of each action. A discount of 1 is allowed wherever episodes end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .mdp import TabularMDP

TIE = 1e-9  # actions whose values differ by less are equally good


class Solution(NamedTuple):
    value: np.ndarray  # f64 [S]
    action_value: np.ndarray  # f64 [S, A]
    policy: np.ndarray  # f64 [S, A], one action each
    sweeps: int


def _check_discount(discount: float) -> None:
    if not 0 <= discount <= 1:
        raise UserError(f"discount must lie between 0 and 1, not {discount}")


def action_values(mdp: TabularMDP, value: np.ndarray, discount: float) -> np.ndarray:
    """Q(s, a) = r(s, a) + γ Σ p(s′ | s, a) V(s′), f64 [S, A] (Sutton & Barto, eq. 4.6)."""
    return mdp.expected_reward() + discount * mdp.onward() @ value


def value_iteration(mdp: TabularMDP, discount: float = 1.0, tolerance: float = 1e-10, most: int = 100_000) -> Solution:
    """V ← maxₐ Q until no value moves by more than `tolerance` (Sutton & Barto, eq. 4.10).

    Raises UserError where that takes more than `most` sweeps.
    """
    _check_discount(discount)
    reward, onward = mdp.expected_reward(), discount * mdp.onward()
    value = np.zeros(mdp.states)
    for sweep in range(1, most + 1):
        before, value = value, (reward + onward @ value).max(1)
        if np.abs(value - before).max() <= tolerance:
            return _solved(mdp, reward + onward @ value, sweep)
    raise UserError(f"values still move after {most} sweeps; set a discount below 1, or a larger tolerance")


def q_value_iteration(
    mdp: TabularMDP, discount: float = 1.0, tolerance: float = 1e-10, most: int = 100_000
) -> Solution:
    """Q ← r + γ Σ p maxₐ′ Q until no value moves by more than `tolerance` (Sutton & Barto, eq. 4.2).

    Raises UserError where that takes more than `most` sweeps.
    """
    _check_discount(discount)
    reward, onward = mdp.expected_reward(), discount * mdp.onward()
    q = np.zeros((mdp.states, mdp.actions))
    for sweep in range(1, most + 1):
        before, q = q, reward + onward @ q.max(1)
        if np.abs(q - before).max() <= tolerance:
            return _solved(mdp, q, sweep)
    raise UserError(f"values still move after {most} sweeps; set a discount below 1, or a larger tolerance")


def policy_iteration(mdp: TabularMDP, discount: float = 1.0, most: int = 1000) -> Solution:
    """Evaluate exactly, then act greedily, until no action is better than the policy's (Howard 1960).

    It begins with the uniform policy. An action is replaced only by a better one: among equals, one that keeps the
    episode from ending could be chosen otherwise.
    """
    _check_discount(discount)
    policy = np.full((mdp.states, mdp.actions), 1 / mdp.actions)
    for sweep in range(1, most + 1):
        value = policy_evaluation(mdp, policy, discount)
        q = action_values(mdp, value, discount)
        better = q.max(1) > (policy * q).sum(1) + TIE
        settled = (policy.max(1) == 1) & ~better
        if settled.all():
            return Solution(value, q, policy, sweep)
        policy = np.where(settled[:, None], policy, np.eye(mdp.actions)[q.argmax(1)])
    raise UserError(f"the policy still changes after {most} sweeps")


def policy_evaluation(mdp: TabularMDP, policy: np.ndarray, discount: float = 1.0) -> np.ndarray:
    """V of a policy, by solving V = r_π + γ P_π V: f64 [S] (Sutton & Barto, eq. 4.4).

    States from which the policy never ends an episode are worth 0 at a discount of 1 if they bring no reward; raises
    UserError if they do, since their value is then infinite or undefined.
    """
    _check_discount(discount)
    reward = (policy * mdp.expected_reward()).sum(1)
    onward = np.einsum("sa,sat->st", policy, mdp.onward())
    able = _ending(onward) if discount == 1 else np.ones(mdp.states, np.bool_)
    if np.abs(reward[~able]).max(initial=0) > TIE:
        raise UserError("the policy goes on for ever and collects rewards; set a discount below 1")
    value = np.zeros(mdp.states)
    inside = onward[np.ix_(able, able)]
    value[able] = np.linalg.solve(np.eye(len(inside)) - discount * inside, reward[able])
    return value


def greedy_policy(mdp: TabularMDP, q: np.ndarray) -> np.ndarray:
    """One best action for each state, f64 [S, A]; among equally good ones, one that leads towards an end.

    At a discount of 1 any best action will not do: walking in circles can be as good as the goal that it puts off.
    """
    best = q >= q.max(1, keepdims=True) - TIE * np.maximum(1, np.abs(q.max(1, keepdims=True)))
    onward = mdp.onward()
    chosen = np.full(mdp.states, -1)
    leads = best & (onward.sum(-1) < 1 - TIE)  # may end the episode at once
    while leads.any():
        found = leads.any(1) & (chosen < 0)
        chosen[found] = leads[found].argmax(1)
        reached = chosen >= 0
        leads = best & (onward[:, :, reached].sum(-1) > TIE) & ~reached[:, None]
    chosen = np.where(chosen < 0, best.argmax(1), chosen)
    return np.eye(mdp.actions)[chosen]


def _solved(mdp: TabularMDP, q: np.ndarray, sweeps: int) -> Solution:
    return Solution(q.max(1), q, greedy_policy(mdp, q), sweeps)


def _ending(onward: np.ndarray) -> np.ndarray:
    """States [S] from which an end can be reached."""
    able = onward.sum(1) < 1 - TIE
    while True:
        wider = able | (onward[:, able] > 0).any(1)
        if (wider == able).all():
            return able
        able = wider
