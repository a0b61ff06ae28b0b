"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, its synchronous form) with GAE(λ)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..types import Trajectory
from .learner import PolicyGradient
from .returns import generalized_advantage


class A2C(PolicyGradient):
    """A = GAE(λ), the critic's target A + V; λ = 1 gives n-step returns."""

    def __init__(self, *args: Any, gae_lambda: float = 0.95, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.gae_lambda = gae_lambda

    def estimate(self, trajectory: Trajectory, value: Tensor) -> tuple[Tensor, Tensor]:
        advantage = generalized_advantage(
            trajectory.reward,
            trajectory.terminated,
            trajectory.truncated,
            value,
            trajectory.next_value,
            self.discount,
            self.gae_lambda,
        )
        return advantage, advantage + value
