"""REINFORCE (Williams 1992) with the variance reductions of a policy-gradient course."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import UserError
from ..types import Trajectory
from ..worlds.protocol import World
from .estimators import Estimator
from .learner import PolicyGradient
from .policies import Policy


class Reinforce(PolicyGradient):
    """∇J = E[Σ ∇log π(aₜ|sₜ) · (Gₜ − b)] over whole episodes, one in each of the world's B places.

    estimator, baseline, discount: see `Estimator`. points: each reward that is not 0 ends what is summed up, as a point
    of Pong ends what the actions before it are to answer for (Karpathy 2016, "Pong from pixels"). An episode that the
    clock cut short is worth V of its last state from there on with the "value" baseline, and nothing without a critic.
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
        points: bool = False,
        **options: Any,
    ):
        super().__init__(policy, world, steps, Estimator(estimator, baseline, discount), **options)
        if points and baseline == "optimal":
            raise UserError("algo.baseline=optimal weighs whole episodes; set algo.points=false")
        self.points = points

    def estimate(self, trajectory: Trajectory, value: Tensor) -> tuple[Tensor, Tensor]:
        if self.points:
            trajectory = trajectory._replace(terminated=trajectory.terminated | (trajectory.reward != 0))
        return super().estimate(trajectory, value)
