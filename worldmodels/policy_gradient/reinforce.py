"""REINFORCE (Williams 1992) with the variance reductions of a policy-gradient course."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..types import Trajectory
from .learner import PolicyGradient
from .returns import bootstrapped_return, total_return


class Reinforce(PolicyGradient):
    """∇J = E[Σ ∇log π(aₜ|sₜ) · (Gₜ − b)] over whole episodes, one in each of the world's B places.

    estimator: "total" (R(τ) at every step) or "reward_to_go"; discount 1 gives the undiscounted forms.
    baseline: "none", "mean" (of the batch's returns) or "value" (a learned V(s)).
    An episode that the clock cut short is worth V of its last state from there on with the "value" baseline, and
    nothing without a critic.
    """

    whole_episodes = True

    def __init__(self, *args: Any, estimator: str = "reward_to_go", baseline: str = "value", **kwargs: Any):
        super().__init__(*args, **kwargs)
        if estimator not in ("total", "reward_to_go"):
            raise UserError(f"unknown algo.estimator {estimator!r}; choose total or reward_to_go")
        if baseline not in ("none", "mean", "value"):
            raise UserError(f"unknown algo.baseline {baseline!r}; choose none, mean or value")
        self.estimator, self.baseline = estimator, baseline
        if baseline != "value":
            self.value_weight = 0.0

    def estimate(self, trajectory: Trajectory, value: Tensor) -> tuple[Tensor, Tensor]:
        reward = trajectory.reward
        next_value = trajectory.next_value if self.baseline == "value" else torch.zeros_like(reward)
        ends = (trajectory.terminated, trajectory.truncated)
        to_go = bootstrapped_return(reward, *ends, next_value, self.discount)
        weight = to_go if self.estimator == "reward_to_go" else total_return(reward, *ends, next_value, self.discount)
        if self.baseline == "value":
            return weight - value, to_go
        if self.baseline == "mean":
            return weight - weight[trajectory.valid].mean(), to_go
        return weight, to_go
