"""The loop that every algorithm shares which learns by acting: play the world, then take one gradient step."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from . import checkpoints
from .bodies import Normalizer
from .module import Module, allow_variants
from .recording import Recorded
from .types import Rollout
from .worlds.protocol import World


class Learner(Module):
    """The world is handed in and never asked what it is.

    Playing happens inside `training_step`: a data loader would prefetch, and so play with the weights of one update
    ago. policy: maps states to actions, `act(state, sample=True)` to play with, behind a `body` (see `bodies`).

    steps: length of a rollout; where `whole_episodes`, the most steps that an episode may take. reward_scale: what
    is learned from is reward × this: values far from 1 would drown π's share of the clipped gradient.
    """

    whole_episodes = False
    recordable = True  # whether it acts by the state and the weights alone, so that a GPU may record its playing
    shown: tuple[str, ...] = ("train/return",)  # while training goes on

    def __init__(
        self,
        policy: Any,
        world: World,
        steps: int,
        learning_rate: float,
        max_gradient_norm: float,
        anneal: bool,
        reward_scale: float,
    ):
        super().__init__()
        self.policy, self.world, self.steps = policy, world, steps
        self.learning_rate, self.max_gradient_norm, self.anneal = learning_rate, max_gradient_norm, anneal
        self.reward_scale = reward_scale
        self.state: Tensor | None = None
        self.seen: Tensor | None = None  # states of the last rollout, where the policy has statistics to take them in
        self.steps_played = 0
        self.returns = EpisodeReturns(world.batch)

    @classmethod
    def network(cls, world: World, **options: Any) -> Any:
        """The policy that this algorithm trains; options: configs/policy."""
        raise NotImplementedError

    def next_batch(self) -> Any:
        """What the next update learns from."""
        raise NotImplementedError

    def trained(self) -> list[nn.Parameter]:
        return list(self.policy.parameters())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is given."""
        return [{"params": self.trained()}]

    @torch.no_grad()
    def roll_out(self) -> tuple[Rollout, Tensor]:
        """T steps of the world, acting by π; and bool [T, B], False once an episode that is played once is over."""
        if self.state is None or self.whole_episodes:
            self.state = self.world.reset()
        if self.seen is not None:  # not sooner: π stays the same until its gradient is taken
            self.policy.body.observe(self.seen)
        if getattr(self.world, "records", False) and self.recordable and not self.whole_episodes:
            rollout: Rollout = self.world.rollout(self._act, self.steps)  # pyright: ignore[reportAttributeAccessIssue]
            valid = torch.ones_like(rollout.terminated)
        else:
            rollout, valid = self._play_step_by_step(self.state)
        if isinstance(self.policy.body, Normalizer):
            self.seen = rollout.state[valid]
        self.steps_played += valid.numel()
        self.returns.add(rollout, valid)
        if self.whole_episodes:  # what the longest allowed rollout cut off is not the next episode's
            self.returns.running[:] = 0
        if self.reward_scale != 1:
            rollout = rollout._replace(reward=rollout.reward * self.reward_scale)
        return rollout, valid

    def _play_step_by_step(self, state: Tensor) -> tuple[Rollout, Tensor]:
        rows = []
        alive = torch.ones(self.world.batch, dtype=torch.bool, device=self.device)
        for _ in range(self.steps):
            action = self._act(state)
            step = self.world.step(action)
            rows.append((state, action, step.next_state, step.reward, step.terminated, step.truncated, alive))
            if self.whole_episodes:
                alive = alive & ~(step.terminated | step.truncated)
                if not alive.any():
                    break
            state = step.state
        self.state = state
        *columns, valid = (torch.stack(column) for column in zip(*rows, strict=True))
        return Rollout(*columns), valid

    def _act(self, state: Tensor) -> Tensor:
        return self.policy.act(state, sample=True)

    def training_step(self, batch: Any, _: int) -> Tensor:
        losses = self.losses_of(self.next_batch())
        if self.logs_now:
            self.log_losses("train", losses)
            self.log("train/return", self.returns.mean(), batch_size=1)
            if self.world.frames_per_step:
                self.log("env_step", float(self.steps_played * self.world.frames_per_step), batch_size=1)
            else:
                self.log("dream_step", float(self.steps_played), batch_size=1)
        return losses["loss"]

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """What `functional_call` calls."""
        return self.loss(batch)

    def compile_loss(self) -> None:
        """From here on one compiled graph leads from a batch to its losses and clipped gradients, past autograd, whose
        bookkeeping takes small networks longer than their arithmetic. On a GPU it is recorded
        instead, which takes a moment.

        The weights must be where they will be trained. Whole episodes differ in length, each of which would be
        compiled anew: their loss stays as it is.
        """
        if self.whole_episodes:
            return
        parameters = {f"policy.{name}": value.detach() for name, value in self.policy.named_parameters()}

        def losses(parameters: dict[str, Tensor], batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
            found = functional_call(self, parameters, (batch,))
            return found["loss"], found

        def gradients_of(parameters: dict[str, Tensor], batch: Any) -> tuple[list[Tensor], dict[str, Tensor]]:
            gradients, (_, found) = grad_and_value(losses, has_aux=True)(parameters, batch)
            norm = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()
            scale = (self.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_
            # contiguous, as the weights are: convolutions of channels-last frames give theirs in that order, which the
            # fused optimiser would not notice
            return [(gradient * scale).contiguous() for gradient in gradients.values()], found

        if next(self.policy.parameters()).device.type == "cuda":
            step = Recorded(partial(gradients_of, parameters))
        else:
            allow_variants()
            step = partial(torch.compile(gradients_of, fullgraph=True), parameters)

        @torch.no_grad()
        def compiled(batch: Any) -> dict[str, Tensor]:
            self.gradients, found = step(batch)
            return found

        self.compiled = compiled

    def configure_optimizers(self) -> Any:
        """Adam, its moments where training goes on."""
        optimizer = torch.optim.Adam(self.parameter_groups(), lr=self.learning_rate, eps=1e-5, fused=True)
        return self.scheduled(checkpoints.restored(optimizer, self.policy.optimizer_state))

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        if self.compiled is None:
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_gradient_norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoints.stamp(checkpoint, self.policy.kind, self.policy.arguments, self.policy.facts)


class EpisodeReturns:
    """Running mean of the returns of the last episodes; rollouts are added whole, one look at the host for each."""

    def __init__(self, batch: int, momentum: float = 0.95):
        self.momentum = momentum
        self.running = np.zeros(batch)
        self.total = self.count = 0.0

    def add(self, rollout: Rollout, valid: Tensor) -> None:
        ended = (rollout.terminated | rollout.truncated).cpu().numpy()
        self.total, self.count = self.total * self.momentum, self.count * self.momentum
        rewards, playing = rollout.reward.cpu().numpy(), valid.cpu().numpy()
        for reward, alive, done in zip(rewards, playing, ended & playing, strict=True):
            self.running += reward * alive
            if done.any():
                self.total += self.running[done].sum()
                self.count += done.sum()
                self.running[done] = 0

    def mean(self) -> float:
        """Mean over the episodes that ended lately, older ones fading; NaN before the first."""
        return self.total / self.count if self.count else float("nan")
