"""Deep Q-learning with a frozen target (Mnih et al. 2015, Nature 518), Double as an option."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import UserError
from ..learner import Learner
from ..worlds.protocol import World
from .experience import Experience, Transitions
from .network import QNetwork


class DQN(Learner):
    """Q(s, a) ← r + γ max Q′(s′, ·), Q′ a copy of Q that is renewed every `target_every` updates; the loss is Huber's.

    double: Q chooses the action at s′ and Q′ says what it is worth (van Hasselt et al. 2016, arXiv 1509.06461, eq. 4).
    steps: between rounds of `updates_per_rollout` updates. warm_up: steps before the first one. exploration: the chance
    of an action at random, falling from 1 over `exploration_steps` steps of all environments.

    Raises UserError for counts below 1 and for a capacity that cannot hold a rollout or the warm-up.
    """

    recordable = False  # a recording would keep the first chance to explore

    def __init__(
        self,
        policy: QNetwork,
        world: World,
        steps: int,
        discount: float = 0.99,
        double: bool = True,
        batch_size: int = 64,
        updates_per_rollout: int = 1,
        target_every: int = 100,
        capacity: int = 100_000,
        warm_up: int = 1000,
        exploration: float = 0.05,
        exploration_steps: int = 10_000,
        learning_rate: float = 1e-3,
        max_gradient_norm: float = 10.0,
        anneal: bool = False,
        reward_scale: float = 1.0,
    ):
        super().__init__(policy, world, steps, learning_rate, max_gradient_norm, anneal, reward_scale)
        counts = {"batch_size": batch_size, "updates_per_rollout": updates_per_rollout, "target_every": target_every}
        for name, count in counts.items():
            if count < 1:
                raise UserError(f"algo.{name} must be at least 1, not {count}")
        if capacity // world.batch * world.batch < max(warm_up, world.batch * steps):  # whole rows are kept
            raise UserError(
                f"algo.capacity={capacity} must hold a rollout of {world.batch * steps} steps and "
                f"algo.warm_up={warm_up} steps, in rows of {world.batch}"
            )
        self.discount, self.is_double, self.batch_size = discount, double, batch_size
        self.updates_per_rollout, self.target_every = updates_per_rollout, target_every
        self.warm_up, self.exploration, self.exploration_steps = warm_up, exploration, exploration_steps
        self.experience = Experience(capacity)
        self.target = copy.deepcopy(policy).requires_grad_(False)
        self.updates = 0

    @classmethod
    def network(cls, world: World, **options: Any) -> QNetwork:
        """hidden: options["value_hidden"], as of any critic."""
        return QNetwork(
            world.state_shape,
            world.action_space,
            *(options[name] for name in ("value_hidden", "normalize", "frame_body")),
        )

    def chance_to_explore(self) -> float:
        """ε now."""
        played = min(1.0, self.steps_played / max(1, self.exploration_steps))
        return 1 + played * (self.exploration - 1)

    def _act(self, state: Tensor) -> Tensor:
        return self.policy.act(state, self.chance_to_explore())

    @torch.no_grad()
    def next_batch(self) -> Transitions:
        if self.updates % self.updates_per_rollout == 0:
            self.experience.add(self.roll_out()[0])
            while self.experience.steps < self.warm_up:
                self.experience.add(self.roll_out()[0])
        if self.updates % self.target_every == 0:
            self.target.load_state_dict(self.policy.state_dict())
        self.updates += 1
        return self.experience.sample(self.batch_size)

    def loss(self, batch: Transitions) -> dict[str, Tensor]:
        """E[huber(Q(s, a) − r − γ Q′(s′, a′))] over the steps that have weight."""
        q = self.policy(batch.state).gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            next_q = self.target(batch.next_state)
            best = (self.policy(batch.next_state) if self.is_double else next_q).argmax(-1, keepdim=True)
            worth = torch.where(batch.terminated, 0.0, next_q.gather(-1, best).squeeze(-1))
            target = batch.reward + self.discount * worth
        error = functional.smooth_l1_loss(q, target, reduction="none")
        loss = (error * batch.weight).sum() / batch.weight.sum().clamp(min=1)
        return {"loss": loss, "q": q.detach().mean()}
