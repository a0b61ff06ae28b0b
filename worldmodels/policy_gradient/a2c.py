"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, its synchronous form)."""

from __future__ import annotations

from typing import Any

from ..worlds.protocol import World
from .estimators import Estimator
from .learner import PolicyGradient
from .policies import Policy


class A2C(PolicyGradient):
    """A = GAE(λ), the critic's target A + V; λ = 1 sums up all that is left of the rollout, λ = 0 is TD(0).

    estimator: "gae", or "n_step" with its `lookahead`.
    """

    def __init__(
        self,
        policy: Policy,
        world: World,
        steps: int,
        discount: float = 0.99,
        gae_lambda: float = 0.95,
        estimator: str = "gae",
        lookahead: int = 5,
        **options: Any,
    ):
        super().__init__(
            policy, world, steps, Estimator(estimator, "value", discount, gae_lambda, lookahead), **options
        )
