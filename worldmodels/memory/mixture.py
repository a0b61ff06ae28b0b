"""A mixture of K Gaussians for each latent dimension (Bishop 1994; Graves 2013, arXiv 1308.0850, eq. 20–23)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..types import Mixture

# Keeps loss and gradient finite in fp32 for any log_std and for targets up to 1e6.
LOG_STD_RANGE = (-10.0, 10.0)
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class _LogProb(torch.autograd.Function):
    """With γₖ = p(k | x) and dₖ = (x − μₖ)/σₖ: ∂/∂logitₖ = γₖ − πₖ, ∂/∂μₖ = γₖ dₖ/σₖ, ∂/∂log σₖ = γₖ (dₖ² − 1),
    and 0 where log σₖ was clamped.

    Bishop 1994, eq. 26–28 for one dimension. Written out, since autograd would keep and walk thrice as many tensors.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, mean: Tensor, log_std: Tensor, x: Tensor) -> Tensor:
        bounded = log_std.clamp(*LOG_STD_RANGE)
        inverse = torch.exp(-bounded)
        distance = (x.unsqueeze(-1) - mean).mul_(inverse)
        joint = torch.addcmul(logits - bounded, distance, distance, value=-0.5)
        responsibility, evidence = _normalized(joint)
        weight, normalizer = _normalized(logits)
        ctx.save_for_backward(responsibility, weight, distance, inverse, log_std != bounded)
        return evidence.sub_(normalizer).sub_(HALF_LOG_2PI)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        responsibility, weight, distance, inverse, bound = ctx.saved_tensors
        gradient = gradient.unsqueeze(-1)
        share = responsibility * gradient
        pull = share * distance
        log_std = (pull * distance).sub_(share).masked_fill_(bound, 0)
        mean = pull.mul_(inverse)
        logits = share.addcmul_(weight, gradient, value=-1)
        return logits, mean, log_std, -mean.sum(-1) if ctx.needs_input_grad[3] else None  # pyright: ignore[reportReturnType]


def _normalized(logits: Tensor) -> tuple[Tensor, Tensor]:
    """softmax [..., K] and logsumexp [...]. torch's own are slow along a short axis."""
    most = logits.amax(-1, keepdim=True)
    share = (logits - most).exp_()
    total = share.sum(-1, keepdim=True)
    return share.div_(total), (total.log_() + most).squeeze(-1)


def log_prob(mixture: Mixture, x: Tensor) -> Tensor:
    """log p(x) = logsumexpₖ[log πₖ − ½((x−μₖ)/σₖ)² − log σₖ − ½ log 2π], π = softmax(logits).

    Mixture [..., Z, K] and x [..., Z] to [..., Z], in fp32 or better. log σ is clamped to LOG_STD_RANGE.
    Raises ValueError where the shapes do not fit.
    """
    if mixture.mean.shape[:-1] != x.shape:
        raise ValueError(f"a mixture {tuple(mixture.mean.shape)} needs x {tuple(mixture.mean.shape[:-1])}: {x.shape}")
    logits, mean, log_std = (part if part.dtype == torch.float64 else part.float() for part in mixture)
    return _LogProb.apply(logits, mean, log_std, x)  # pyright: ignore[reportReturnType]


def components_used(weights: Tensor) -> Tensor:
    """exp(−Σₖ w̄ₖ log w̄ₖ) of mean weights [..., K]: [...], 1 where one component does it all and K where all share."""
    return torch.special.entr(weights).sum(-1).exp()


def sample(mixture: Mixture, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Draw z [..., Z]: a component from softmax(logits / τ) by Gumbel-max, then μ + σ √τ ε.

    Temperature τ as in arXiv 1803.10122, section 4: the dream's uncertainty. Raises ValueError for τ ≤ 0.
    """
    if temperature <= 0:
        raise ValueError(f"the temperature must be positive, not {temperature}")
    gumbel = -torch.empty_like(mixture.logits).exponential_(generator=generator).log_()
    component = torch.argmax(mixture.logits / temperature + gumbel, -1, keepdim=True)
    mean = mixture.mean.gather(-1, component).squeeze(-1)
    log_std = mixture.log_std.gather(-1, component).squeeze(-1).clamp(*LOG_STD_RANGE)
    noise = torch.empty_like(mean).normal_(generator=generator)
    return torch.addcmul(mean, log_std.exp(), noise, value=math.sqrt(temperature))
