"""What every policy-gradient algorithm shares: from a rollout to its estimate and its loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from ..errors import UserError
from ..learner import Learner
from ..types import Trajectory
from ..worlds.protocol import World
from .estimators import Estimator
from .policies import ActionDistribution, Policy


class PolicyGradient(Learner):
    """An algorithm is its difference: its estimator (returns, baseline) and whether it plays whole episodes.

    critic_learning_rate: of the critic's own layers, if not the others'. points: each reward that is not 0 ends what is
    summed up, as a point of Pong ends what the actions before it are to answer for (Karpathy 2016, "Pong from pixels").
    sharpen: to how many times `Policy.sharpness` grows over the training, by the same factor each update: what is
    learned draws near to what is scored, the greedy action, whatever the gradient does to π's spread. Each training
    begins at 1, also where it goes on with a C that has become sharp.
    """

    shown = ("train/return", "train/entropy")
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
        anneal: bool = False,
        reward_scale: float = 1.0,
        points: bool = False,
        sharpen: float = 1.0,
    ):
        if points and estimator.baseline == "optimal":
            raise UserError("algo.baseline=optimal weighs whole episodes; set algo.points=false")
        if sharpen < 1:
            raise UserError(f"algo.sharpen must be at least 1, which changes nothing, not {sharpen}")
        super().__init__(policy, world, steps, learning_rate, max_gradient_norm, anneal, reward_scale)
        self.estimator, self.normalize_advantage = estimator, normalize_advantage
        self.entropy_weight, self.critic_learning_rate = entropy_weight, critic_learning_rate
        self.points, self.sharpen = points, sharpen
        # without the baseline nobody reads V
        self.value_weight = value_weight if estimator.baseline == "value" else 0.0

    @classmethod
    def network(cls, world: World, **options: Any) -> Policy:
        return Policy(world.state_shape, world.action_space, **options, action_values=cls.action_values)

    def estimate(self, trajectory: Trajectory, value: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of ∇log π [T, B], and targets of V [T, B], from V(sₜ) [T, B] without gradient."""
        if self.points:
            trajectory = trajectory._replace(terminated=trajectory.terminated | (trajectory.reward != 0))
        if self.estimator.baseline != "optimal":
            return self.estimator(trajectory, value)
        return self.estimator(trajectory, value, score_norms(self.policy, trajectory))

    def next_batch(self) -> Any:
        return self.play()

    @torch.no_grad()
    def play(self) -> Trajectory:
        """T steps of the world, acting by π, with the values that bootstrapping needs."""
        if self.sharpen != 1:
            progress = self.global_step / self.trainer.estimated_stepping_batches
            self.policy.sharpness.fill_(self.sharpen**progress)
        rollout, valid = self.roll_out()
        state, action, next_state, reward, terminated, truncated = rollout
        return Trajectory(state, action, reward, terminated, truncated, self._next_value(truncated, next_state), valid)

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

    def parameter_groups(self) -> list[dict[str, Any]]:
        if self.critic_learning_rate is None:
            return super().parameter_groups()
        critic = list(self.policy.critic.parameters())
        own = {id(parameter) for parameter in critic}
        others = [parameter for parameter in self.policy.parameters() if id(parameter) not in own]
        return [{"params": others}, {"params": critic, "lr": self.critic_learning_rate}]


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
