"""M for dreaming: two matrix products a step, nothing trained, nothing validated, no look at the host."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..types import MemoryState
from .mdnrnn import MDNRNN
from .mixture import LOG_STD_RANGE


class FusedMDNRNN:
    """A copy of an MDNRNN's weights, stacked: all gates from cat(z, a, h) in one product, all heads in another.

    It equals `MDNRNN.step`, `predict` and `mixture.sample` (a test says so) for steps that are not an episode's first.
    The copy does not follow later training: make a new one. Random numbers are handed in, so that `advance` is a pure
    function of tensors. compiles: torch.compile it; the first call then takes some ten seconds.
    """

    def __init__(self, network: MDNRNN, compiles: bool = False):
        if compiles:
            self.advance = torch.compile(self.advance, dynamic=False)
        self.latent_dim, self.hidden_dim, self.mixtures = network.latent_dim, network.hidden_dim, network.mixtures
        lstm, size = network.lstm, network.hidden_dim
        seen = network.latent_dim + network.action_dim  # without the restart flag, which is 0 within an episode
        weight = torch.cat([lstm.get_parameter("weight_ih_l0")[:, :seen], lstm.get_parameter("weight_hh_l0")], 1)
        bias = lstm.get_parameter("bias_ih_l0") + lstm.get_parameter("bias_hh_l0")
        # torch orders the gates i, f, g, o; with g last one sigmoid covers the other three
        order = torch.cat([torch.arange(2 * size), torch.arange(3 * size, 4 * size), torch.arange(2 * size, 3 * size)])
        order = order.to(weight.device)
        self.gate_weight = torch.cat([weight, bias[:, None]], 1)[order].detach().T
        self.head_weight, self.head_bias = network.heads.weight.detach().clone().T, network.heads.bias.detach().clone()

    def advance(
        self, z: Tensor, action: Tensor, state: MemoryState, uniform: Tensor, noise: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, MemoryState, Tensor, Tensor]:
        """What follows z [B, Z] and action [B, A]: the next z and state, reward [B] and the end's probability [B].

        uniform in [0, 1) and noise ~ N(0, 1), both [B, Z]: see `draw`.
        """
        state, heads = self.step(z, action, state)
        return self.draw(heads, uniform, noise, temperature), state, heads[:, -2], torch.sigmoid(heads[:, -1])

    def step(self, z: Tensor, action: Tensor, state: MemoryState) -> tuple[MemoryState, Tensor]:
        """The next state and the heads' outputs [B, 3·K·Z + 2]: mixture as (part, k, z), reward, logit of the end."""
        gates = torch.cat([z, action, state.h, torch.ones_like(z[:, :1])], 1) @ self.gate_weight
        size = self.hidden_dim
        opened, candidate = gates[:, : 3 * size].sigmoid_(), gates[:, 3 * size :].tanh_()
        c = torch.addcmul(opened[:, size : 2 * size] * state.c, opened[:, :size], candidate)
        h = opened[:, 2 * size :] * torch.tanh(c)
        return MemoryState(h, c), torch.addmm(self.head_bias, h, self.head_weight)

    def expected(self, heads: Tensor) -> Tensor:
        """The mixture's mean Σ πₖ μₖ, z [B, Z]."""
        logits, mean, _ = heads[:, : 3 * self.mixtures * self.latent_dim].unflatten(1, (3, self.mixtures, -1)).unbind(1)
        return (torch.softmax(logits, 1) * mean).sum(1)

    def draw(self, heads: Tensor, uniform: Tensor, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """z [B, Z] from the mixture at temperature τ, as `mixture.sample` draws it.

        The component comes from inverting the distribution function: one uniform number for each z in place of
        Gumbel-max's K exponential ones, which took most of a step.
        """
        size = self.mixtures * self.latent_dim
        logits = heads[:, :size].unflatten(1, (self.mixtures, -1))
        weights = torch.softmax(logits / temperature if temperature != 1 else logits, 1)
        component = (uniform.unsqueeze(1) > weights[:, :-1].cumsum(1)).sum(1)
        both = heads[:, size : 3 * size].unflatten(1, (2, self.mixtures, -1))
        mean, log_std = both.gather(2, component[:, None, None].expand(-1, 2, -1, -1)).unbind(1)
        chosen, std = mean.squeeze(1), log_std.squeeze(1).clamp(*LOG_STD_RANGE).exp_()
        return torch.addcmul(chosen, std, noise, value=math.sqrt(temperature))
