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
    The copy does not follow later training: make a new one.
    """

    def __init__(self, network: MDNRNN):
        self.latent_dim, self.hidden_dim, self.mixtures = network.latent_dim, network.hidden_dim, network.mixtures
        lstm, size = network.lstm, network.hidden_dim
        seen = network.latent_dim + network.action_dim  # without the restart flag, which is 0 within an episode
        weight = torch.cat([lstm.get_parameter("weight_ih_l0")[:, :seen], lstm.get_parameter("weight_hh_l0")], 1)
        bias = lstm.get_parameter("bias_ih_l0") + lstm.get_parameter("bias_hh_l0")
        # torch orders the gates i, f, g, o; with g last one sigmoid covers the other three
        order = torch.cat([torch.arange(2 * size), torch.arange(3 * size, 4 * size), torch.arange(2 * size, 3 * size)])
        order = order.to(weight.device)
        self.gate_weight, self.gate_bias = weight[order].detach().T, bias[order].detach()
        # mixture rows from (part, z, k) to (part, k, z): a component is then one contiguous row
        rows = torch.arange(3 * self.mixtures * self.latent_dim, device=weight.device)
        rows = rows.view(3, self.latent_dim, self.mixtures).transpose(1, 2).reshape(-1)
        heads = (network.reward_head, network.terminated_head)
        self.head_weight = torch.cat([network.mixture_head.weight[rows], *(h.weight for h in heads)]).detach().T
        self.head_bias = torch.cat([network.mixture_head.bias[rows], *(h.bias for h in heads)]).detach()

    def step(self, z: Tensor, action: Tensor, state: MemoryState) -> tuple[MemoryState, Tensor]:
        """z [B, Z], action [B, A] to the next state and the heads' outputs [B, 3·K·Z + 2] for `draw` and `outcome`."""
        gates = torch.addmm(self.gate_bias, torch.cat([z, action, state.h], 1), self.gate_weight)
        size = self.hidden_dim
        opened, candidate = gates[:, : 3 * size].sigmoid_(), gates[:, 3 * size :].tanh_()
        c = torch.addcmul(opened[:, size : 2 * size] * state.c, opened[:, :size], candidate)
        h = opened[:, 2 * size :] * torch.tanh(c)
        return MemoryState(h, c), torch.addmm(self.head_bias, h, self.head_weight)

    def draw(self, heads: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
        """z [B, Z] from the mixture at temperature τ, as `mixture.sample` draws it.

        The component comes from inverting the distribution function: one uniform number for each z in place of
        Gumbel-max's K exponential ones, which took most of a step.
        """
        size = self.mixtures * self.latent_dim
        logits, mean, log_std = (part.unflatten(1, (self.mixtures, -1)) for part in heads[:, : 3 * size].split(size, 1))
        cumulative = torch.softmax(logits / temperature if temperature != 1 else logits, 1).cumsum_(1)
        uniform = torch.empty_like(mean[:, :1]).uniform_(generator=generator)
        component = (uniform > cumulative).sum(1, keepdim=True).clamp_(max=self.mixtures - 1)
        chosen = mean.gather(1, component).squeeze(1)
        std = log_std.gather(1, component).squeeze(1).clamp_(*LOG_STD_RANGE).exp_()
        noise = torch.empty_like(chosen).normal_(generator=generator)
        return torch.addcmul(chosen, std, noise, value=math.sqrt(temperature))

    def outcome(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted reward [B], and logit of the episode's end [B]."""
        return heads[:, -2], heads[:, -1]
