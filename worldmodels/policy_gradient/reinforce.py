"""REINFORCE (Williams 1992) with the variance reductions of a policy-gradient course."""

from __future__ import annotations

from typing import Any

from ..worlds.protocol import World
from .estimators import Estimator
from .learner import PolicyGradient
from .policies import Policy


class Reinforce(PolicyGradient):
    """∇J = E[Σ ∇log π(aₜ|sₜ) · (Gₜ − b)] over whole episodes, one in each of the world's B places.

    estimator, baseline, discount: see `Estimator`. An episode that the clock cut short is worth V of its last state
    from there on with the "value" baseline, and nothing without a critic.
    """

    whole_episodes = True

    def __init__(
        self,
        policy: Policy,
        world: World,
        steps: int,
        discount: float = 0.99,
        estimator: str = "reward_to_go",
        baseline: str = "none",
        **options: Any,
    ):
        super().__init__(policy, world, steps, Estimator(estimator, baseline, discount), **options)
