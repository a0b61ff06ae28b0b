"""The loop that every policy-gradient algorithm shares: play the world, estimate, take one gradient step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from .. import checkpoints
from ..module import Module
from ..types import Rollout, Trajectory
from ..worlds.protocol import World
from .estimators import Estimator
from .policies import ActionDistribution, Policy


class PolicyGradient(Module):
    """An algorithm is its difference: its estimator (returns, baseline) and whether it plays whole episodes.

    The world is handed in and never asked what it is. Playing happens inside `training_step`: a data loader would
    prefetch, and so play with the weights of one update ago.

    steps: length of a rollout; where `whole_episodes`, the most steps that an episode may take.
    """

    whole_episodes = False
    action_values = False  # whether the critic gives Q(s, ·)

    def __init__(
        self,
        policy: Policy,
        world: World,
        steps: int,
        estimator: Estimator,
        learning_rate: float = 7e-4,
        entropy_weight: float = 0.0,
        value_weight: float = 0.5,
        max_gradient_norm: float = 0.5,
        normalize_advantage: bool = False,
        critic_learning_rate: float | None = None,
    ):
        super().__init__()
        self.policy, self.world, self.steps, self.estimator = policy, world, steps, estimator
        self.learning_rate, self.entropy_weight, self.value_weight = learning_rate, entropy_weight, value_weight
        self.critic_learning_rate = learning_rate if critic_learning_rate is None else critic_learning_rate
        self.max_gradient_norm, self.normalize_advantage = max_gradient_norm, normalize_advantage
        if estimator.baseline != "value":  # nobody reads V
            self.value_weight = 0.0
        self.state: Tensor | None = None
        self.steps_played = 0
        self.returns = EpisodeReturns(world.batch)

    def estimate(self, trajectory: Trajectory, value: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of ∇log π [T, B], and targets of V [T, B], from V(sₜ) [T, B] without gradient."""
        if self.estimator.baseline != "optimal":
            return self.estimator(trajectory, value)
        return self.estimator(trajectory, value, score_norms(self.policy, trajectory))

    def next_batch(self) -> Any:
        """What the next update learns from."""
        return self.play()

    @torch.no_grad()
    def play(self) -> Trajectory:
        """T steps of the world, acting by π, with the values that bootstrapping needs."""
        rollout, valid = self.roll_out()
        state, action, next_state, reward, terminated, truncated = rollout
        return Trajectory(state, action, reward, terminated, truncated, self._next_value(truncated, next_state), valid)

    @torch.no_grad()
    def roll_out(self) -> tuple[Rollout, Tensor]:
        """T steps of the world, acting by π; and bool [T, B], False once an episode that is played once is over."""
        if self.state is None or self.whole_episodes:
            self.state = self.world.reset()
        if getattr(self.world, "records", False) and not self.whole_episodes:
            rollout: Rollout = self.world.rollout(self._act, self.steps)  # pyright: ignore[reportAttributeAccessIssue]
            valid = torch.ones_like(rollout.terminated)
        else:
            rollout, valid = self._play_step_by_step(self.state)
        self.steps_played += valid.numel()
        self.returns.add(rollout, valid)
        if self.whole_episodes:  # what the longest allowed rollout cut off is not the next episode's
            self.returns.running[:] = 0
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

    def _next_value(self, truncated: Tensor, next_states: Tensor) -> Tensor:
        """V of the true next state where it is needed, at truncations and at the rollout's end; else 0. f32 [T, B]."""
        needed = truncated.clone()
        needed[-1] = True
        result = torch.zeros(needed.shape, device=needed.device)
        for t in needed.any(1).nonzero().flatten().tolist():  # one look at the host for a rollout
            result[t] = torch.where(needed[t], self.policy.value(next_states[t]), 0.0)
        return result

    def loss(self, trajectory: Trajectory) -> dict[str, Tensor]:
        """−E[log π(a|s) · A] + value_weight · E[(V − target)²] − entropy_weight · E[H(π)], over the valid steps."""
        actions, value = self.policy(trajectory.state)
        advantage, target = self.estimate(trajectory, value.detach())
        weight = trajectory.valid.float() / trajectory.valid.sum()
        return self.weigh(actions, actions.log_prob(trajectory.action), advantage, value - target, weight)

    def weigh(
        self, actions: ActionDistribution, log_prob: Tensor, advantage: Tensor, error: Tensor, weight: Tensor
    ) -> dict[str, Tensor]:
        """The loss from log π(a|s), the advantage, the critic's error and each step's weight, which sum to 1."""
        if self.normalize_advantage:
            mean = (advantage * weight).sum()
            spread = ((advantage - mean).square() * weight).sum().sqrt()
            advantage = (advantage - mean) / (spread + 1e-8)
        policy_loss = -(self.surrogate(log_prob, advantage) * weight).sum()
        value_loss = (error.square() * weight).sum()
        entropy = (actions.entropy() * weight).sum()
        total = policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy
        return {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    def surrogate(self, log_prob: Tensor, advantage: Tensor) -> Tensor:
        """What is to grow at each step; its gradient is ∇log π · A."""
        return log_prob * advantage

    def training_step(self, batch: Any, _: int) -> Tensor:
        losses = self.loss(self.next_batch())
        if self.logs_now:
            self.log_losses("train", losses)
            self.log("train/return", self.returns.mean(), batch_size=1)
            if self.world.frames_per_step:
                self.log("env_step", float(self.steps_played * self.world.frames_per_step), batch_size=1)
            else:
                self.log("dream_step", float(self.steps_played), batch_size=1)
        return losses["loss"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; the critic's own layers may learn at a rate of their own."""
        critic = list(self.policy.critic.parameters())
        own = {id(parameter) for parameter in critic}
        others = [parameter for parameter in self.policy.parameters() if id(parameter) not in own]
        groups = [{"params": others}, {"params": critic, "lr": self.critic_learning_rate}]
        optimizer = torch.optim.Adam(groups, lr=self.learning_rate, eps=1e-5, fused=True)
        return checkpoints.restored(optimizer, self.policy.optimizer_state)

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_gradient_norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoints.stamp(checkpoint, self.policy.kind, self.policy.arguments, self.policy.facts)


def score_norms(policy: Policy, trajectory: Trajectory) -> Tensor:
    """‖Σₜ ∇log π(aₜ|sₜ)‖² of each of the B episodes over π's own parameters, the same at all T steps: f32 [T, B]."""
    own: dict[str, Tensor] = {
        name: value for name, value in policy.named_parameters() if not name.startswith("critic.")
    }

    def log_prob(parameters: dict[str, Tensor], state: Tensor, action: Tensor, valid: Tensor) -> Tensor:
        actions, _ = functional_call(policy, parameters, (state,))
        return (actions.log_prob(action) * valid).sum()

    each = vmap(grad(log_prob), in_dims=(None, 1, 1, 1))
    gradients = each(own, trajectory.state, trajectory.action, trajectory.valid)
    norms = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients.values()]).sum(0)
    return norms.detach().expand_as(trajectory.reward)


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
