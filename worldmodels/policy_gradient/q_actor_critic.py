"""Actor-critic with a critic of actions: ∇J = E[∇log π(a|s) Q(s, a)] (Sutton et al. 2000, theorem 1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import UserError
from ..worlds.protocol import World
from .estimators import Estimator
from .learner import PolicyGradient
from .policies import Policy

TARGETS = ("max", "sarsa", "expected")


class Transitions(NamedTuple):
    """T steps of B parallel episodes, each with what followed."""

    state: Tensor  # [T, B, ...]
    action: Tensor  # i64 [T, B]
    reward: Tensor  # f32 [T, B]
    terminated: Tensor  # bool [T, B]
    next_state: Tensor  # [T, B, ...]
    next_action: Tensor  # i64 [T, B]: played next, or drawn from π where the rollout or the episode was cut


class QActorCritic(PolicyGradient):
    """Q(s, a) ← r + γ Q′, with Q′ by `target`: "max" over a′, "sarsa" of the a′ that follows, "expected" under π.

    masks: what follows a terminated state is worth nothing; False leaves it in, which with "max" and γ = 1 is the
    form of the lecture's slides. baseline: "none", or "value", which takes V(s) = Σ π(a|s) Q(s, a) off Q(s, a).
    """

    action_values = True

    def __init__(
        self,
        policy: Policy,
        world: World,
        steps: int,
        discount: float = 0.99,
        target: str = "expected",
        masks: bool = True,
        baseline: str = "none",
        **options: Any,
    ):
        # one step, then the critic: its own estimate replaces the general one in `loss`
        super().__init__(policy, world, steps, Estimator("n_step", "value", discount, lookahead=1), **options)
        for field, name, known in (("target", target, TARGETS), ("baseline", baseline, ("none", "value"))):
            if name not in known:
                raise UserError(f"unknown algo.{field} {name!r}; choose {', '.join(known)}")
        if self.points:
            raise UserError("algo.points ends returns, and q_actor_critic has none; set algo.points=false")
        self.target, self.masks, self.baseline = target, masks, baseline

    @torch.no_grad()
    def next_batch(self) -> Transitions:
        state, action, next_state, reward, terminated, truncated = self.roll_out()[0]
        goes_on = ~(terminated | truncated)[:-1]
        drawn = self._act(next_state)
        next_action = torch.cat([torch.where(goes_on, action[1:], drawn[:-1]), drawn[-1:]])
        return Transitions(state, action, reward, terminated, next_state, next_action)

    def loss(self, batch: Transitions) -> dict[str, Tensor]:
        """−E[log π(a|s) (Q − b)] + value_weight · E[(Q − target)²] − entropy_weight · E[H(π)]."""
        actions, q = self.policy(batch.state)
        chosen = _of(q, batch.action)
        with torch.no_grad():
            following, next_q = self.policy(batch.next_state)
            worth = {
                "max": lambda: next_q.amax(-1),
                "sarsa": lambda: _of(next_q, batch.next_action),
                "expected": lambda: (following.probabilities * next_q).sum(-1),
            }[self.target]()
            if self.masks:
                worth = torch.where(batch.terminated, 0.0, worth)
            target = batch.reward + self.estimator.discount * worth
            advantage = chosen - (actions.probabilities * q).sum(-1) if self.baseline == "value" else chosen.clone()
        weight = torch.full_like(target, 1 / target.numel())
        return self.weigh(actions, actions.log_prob(batch.action), advantage, chosen - target, weight)


def _of(q: Tensor, action: Tensor) -> Tensor:
    """Q(s, a) [...] from Q(s, ·) [..., n]."""
    return q.gather(-1, action.unsqueeze(-1)).squeeze(-1)
