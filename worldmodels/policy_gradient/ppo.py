"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347): A2C that takes several steps a rollout."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import UserError
from ..worlds.protocol import World
from .estimators import Estimator
from .learner import PolicyGradient
from .policies import Policy


class Minibatch(NamedTuple):
    """N steps, no longer in order, with what was known when they were played."""

    state: Tensor  # [N, ...]
    action: Tensor  # f32 [N, A] or i64 [N]
    log_prob: Tensor  # f32 [N]
    advantage: Tensor  # f32 [N]
    target: Tensor  # f32 [N], of V


class PPO(PolicyGradient):
    """Each rollout is gone over `epochs` times in `minibatches` parts; an update is a step on one part.

    clip ε: the ratio of new to old probability counts within [1 − ε, 1 + ε] (eq. 7).
    """

    def __init__(
        self,
        policy: Policy,
        world: World,
        steps: int,
        discount: float = 0.99,
        gae_lambda: float = 0.95,
        epochs: int = 4,
        minibatches: int = 4,
        clip: float = 0.2,
        **options: Any,
    ):
        super().__init__(policy, world, steps, Estimator("gae", "value", discount, gae_lambda), **options)
        if epochs < 1 or not 1 <= minibatches <= steps * world.batch or clip <= 0:
            raise UserError(
                f"algo.epochs={epochs} must be at least 1, algo.clip={clip} above 0, "
                f"and algo.minibatches={minibatches} between 1 and the rollout's {steps * world.batch} steps"
            )
        self.epochs, self.minibatches, self.clip = epochs, minibatches, clip
        self.waiting: list[Minibatch] = []

    @torch.no_grad()
    def next_batch(self) -> Minibatch:
        if not self.waiting:
            trajectory = self.play()
            actions, value = self.policy(trajectory.state)
            advantage, target = self.estimate(trajectory, value)
            log_prob = actions.log_prob(trajectory.action)
            whole = Minibatch(
                *(x.flatten(0, 1) for x in (trajectory.state, trajectory.action, log_prob, advantage, target))
            )
            for _ in range(self.epochs):
                order = torch.randperm(len(whole.target), device=whole.target.device)
                self.waiting += [Minibatch(*(x[part] for x in whole)) for part in order.chunk(self.minibatches)]
        return self.waiting.pop(0)

    def loss(self, batch: Minibatch) -> dict[str, Tensor]:
        """−E[min(ρ A, clip(ρ) A)] + value_weight · E[(V − target)²] − entropy_weight · E[H(π)], ρ = π/π_old."""
        actions, value = self.policy(batch.state)
        log_ratio = actions.log_prob(batch.action) - batch.log_prob
        weight = torch.full_like(log_ratio, 1 / len(log_ratio))
        return self.weigh(actions, log_ratio, batch.advantage, value - batch.target, weight)

    def surrogate(self, log_prob: Tensor, advantage: Tensor) -> Tensor:
        """`log_prob` is that of the ratio ρ here."""
        ratio = log_prob.exp()
        return torch.minimum(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)
