"""Policies: a body, a head that is a distribution over the environment's actions, and a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional

from .. import checkpoints
from ..bodies import MLP, body_of
from ..envs.spaces import action_dim
from ..errors import UserError

# Beta and tanh reach the bounds only in the limit; actions stay this far (of the half-width) inside.
MARGIN = 1e-6
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class ActionDistribution(Protocol):
    """greedy: what is played when nothing is drawn: the likeliest of discrete actions, the mean of Beta ones, and the
    squashed mean of Gaussian ones."""

    def sample(self) -> Tensor: ...
    def greedy(self) -> Tensor: ...
    def log_prob(self, action: Tensor) -> Tensor: ...
    def entropy(self) -> Tensor: ...


class CategoricalActions:
    """i64 [...] from logits [..., n]."""

    def __init__(self, logits: Tensor):
        self.log_probabilities = functional.log_softmax(logits, -1)

    @property
    def probabilities(self) -> Tensor:
        return self.log_probabilities.exp()

    def sample(self) -> Tensor:
        """By Gumbel-max."""
        return (self.log_probabilities - torch.empty_like(self.log_probabilities).exponential_().log_()).argmax(-1)

    def greedy(self) -> Tensor:
        return self.log_probabilities.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.log_probabilities.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.probabilities * self.log_probabilities).sum(-1)


class BetaActions:
    """f32 [..., A] in the box: low + (high − low) · x with x ~ Beta(α, β), α, β ≥ 1 (Chou et al. 2017, PMLR 70).

    parameters [..., 2A]; the densities are those of the action in the environment's units. sharpness s: Beta(s·α, s·β),
    of the same mean and nearly an s-th of the variance.
    """

    def __init__(self, parameters: Tensor, low: Tensor, high: Tensor, sharpness: Tensor | float = 1.0):
        alpha, beta = ((functional.softplus(parameters) + 1) * sharpness).chunk(2, -1)
        self.distribution = Beta(alpha, beta, validate_args=False)
        self.low, self.width = low, high - low

    def sample(self) -> Tensor:
        return self.low + self.width * self.distribution.sample()

    def greedy(self) -> Tensor:
        return self.low + self.width * self.distribution.mean

    def log_prob(self, action: Tensor) -> Tensor:
        x = ((action - self.low) / self.width).clamp(MARGIN / 2, 1 - MARGIN / 2)
        return (self.distribution.log_prob(x) - self.width.log()).sum(-1)

    def entropy(self) -> Tensor:
        return (self.distribution.entropy() + self.width.log()).sum(-1)


class SquashedGaussianActions:
    """f32 [..., A] in the box: centre + half-width · tanh(u), u ~ N(μ, σ²) (Haarnoja et al. 2018, arXiv 1801.01290, C).

    The entropy has no closed form: it is estimated from one reparametrised draw.
    """

    def __init__(self, mean: Tensor, log_std: Tensor, low: Tensor, high: Tensor):
        self.mean, self.log_std = mean, log_std.clamp(-5, 2)
        self.centre, self.half = (low + high) / 2, (high - low) / 2

    def sample(self) -> Tensor:
        return self.centre + self.half * torch.tanh(self._draw().detach())

    def greedy(self) -> Tensor:
        return self.centre + self.half * torch.tanh(self.mean)

    def log_prob(self, action: Tensor) -> Tensor:
        y = ((action - self.centre) / self.half).clamp(-1 + MARGIN, 1 - MARGIN)
        return self._density(torch.atanh(y))

    def entropy(self) -> Tensor:
        return -self._density(self._draw())

    def _density(self, u: Tensor) -> Tensor:
        # log(1 − tanh²u) = 2 (log 2 − u − softplus(−2u)), which does not overflow
        squash = 2 * (math.log(2) - u - functional.softplus(-2 * u))
        scaled = (u - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * scaled.square() - self.log_std - HALF_LOG_2PI - squash - self.half.log()).sum(-1)

    def _draw(self) -> Tensor:
        return torch.addcmul(self.mean, self.log_std.exp(), torch.randn_like(self.mean))


class Policy(nn.Module):
    """π(a | s) and V(s), each with its own hidden layers, behind one body: see `bodies.body_of`.

    state_shape: (S,) for vectors and latent states, (H, W, C) for frames; action_space: as envs.spaces.describe gives
    it; hidden: sizes of the hidden layers, none for a linear C; distribution: "beta" or "gaussian" for bounded actions;
    normalize: vectors by their running mean and deviation; frame_body: see `bodies.body_of`. action_values: the critic
    gives Q(s, a) of every discrete action, [..., n], in place of V(s), [...].

    sharpness s, 1 unless a learner raises it: logits × s, Beta(s·α, s·β), σ² / s.
    """

    kind = "policy"
    sharpness: Tensor

    def __init__(
        self,
        state_shape: Sequence[int],
        action_space: dict[str, Any],
        hidden: Sequence[int] = (64, 64),
        value_hidden: Sequence[int] = (64, 64),
        distribution: str = "beta",
        action_values: bool = False,
        normalize: bool = False,
        frame_body: str = "convolutions",
    ):
        super().__init__()
        if distribution not in ("beta", "gaussian"):
            raise UserError(f"unknown policy.distribution {distribution!r}; choose beta or gaussian")
        self.arguments = {
            "state_shape": list(state_shape),
            "action_space": action_space,
            "hidden": list(hidden),
            "value_hidden": list(value_hidden),
            "distribution": distribution,
            "action_values": action_values,
            "normalize": normalize,
            "frame_body": frame_body,
        }
        self.facts: dict[str, Any] = {}
        self.optimizer_state: dict[str, Any] | None = None
        self.discrete, self.distribution = action_space["type"] == "discrete", distribution
        self.action_values = action_values
        if action_values and not self.discrete:
            raise UserError("a critic of every action needs discrete actions; choose algo=a2c for continuous ones")
        self.body, features = body_of(state_shape, normalize, frame_body)
        actions = action_dim(action_space)
        outputs = 2 * actions if not self.discrete and distribution == "beta" else actions
        self.actor = MLP([features, *hidden, outputs], output_gain=0.01)
        # no weight, and nothing that the greedy action depends on: a checkpoint goes without
        self.register_buffer("sharpness", torch.ones(()), persistent=False)
        # Q(s, ·) begins level: π would follow differences that nothing has taught yet
        values, gain = (actions, 0.01) if action_values else (1, 1.0)
        self.critic = MLP([features, *value_hidden, values], output_gain=gain)
        if not self.discrete:
            self.register_buffer("low", torch.tensor(action_space["low"]))
            self.register_buffer("high", torch.tensor(action_space["high"]))
            if distribution == "gaussian":
                self.log_std = nn.Parameter(torch.full((actions,), -0.5))

    def forward(self, state: Tensor) -> tuple[ActionDistribution, Tensor]:
        """States [..., S] or u8 [..., H, W, C] to π and V [...]."""
        features = self.body(state)
        return self._actions(features), self._values(features)

    def act(self, state: Tensor, sample: bool = False) -> Tensor:
        """The greedy action, or a draw from π."""
        actions = self._actions(self.body(state))
        return actions.sample() if sample else actions.greedy()

    def value(self, state: Tensor) -> Tensor:
        return self._values(self.body(state))

    def _values(self, features: Tensor) -> Tensor:
        values = self.critic(features)
        return values if self.action_values else values.squeeze(-1)

    def _actions(self, features: Tensor) -> ActionDistribution:
        out = self.actor(features)
        if self.discrete:
            return CategoricalActions(out * self.sharpness)
        low, high = self.get_buffer("low"), self.get_buffer("high")
        if self.distribution == "beta":
            return BetaActions(out, low, high, self.sharpness)
        return SquashedGaussianActions(out, (self.log_std - 0.5 * self.sharpness.log()).expand_as(out), low, high)

    @classmethod
    def load(cls, path: str | Path) -> tuple[Policy, checkpoints.Checkpoint]:
        """The trained policy and what its checkpoint says. Raises UserError, see `checkpoints.read`."""
        checkpoint = checkpoints.read(path, cls.kind)
        weights = {k.removeprefix("policy."): v for k, v in checkpoint.state.items()}
        return checkpoints.build(cls, checkpoint._replace(state=weights))
