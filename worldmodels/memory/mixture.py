"""A mixture of K Gaussians for each latent dimension (Bishop 1994; Graves 2013, arXiv 1308.0850, eq. 20–23)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..types import Mixture

# Keeps loss and gradient finite in fp32 for any log_std and for targets up to 1e6.
LOG_STD_RANGE = (-10.0, 10.0)
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def log_prob(mixture: Mixture, x: Tensor) -> Tensor:
    """log p(x) = logsumexpₖ[log πₖ − ½((x−μₖ)/σₖ)² − log σₖ − ½ log 2π], π = softmax(logits).

    Mixture [..., Z, K] and x [..., Z] to [..., Z], in fp32 or better. log σ is clamped to LOG_STD_RANGE.
    Raises ValueError where the shapes do not fit.
    """
    if mixture.mean.shape[:-1] != x.shape:
        raise ValueError(f"a mixture {tuple(mixture.mean.shape)} needs x {tuple(mixture.mean.shape[:-1])}: {x.shape}")
    logits, mean, log_std = (part if part.dtype == torch.float64 else part.float() for part in mixture)
    log_std = log_std.clamp(*LOG_STD_RANGE)
    scaled = (x.unsqueeze(-1) - mean) * torch.exp(-log_std)
    component = -0.5 * scaled.square() - log_std - HALF_LOG_2PI
    return torch.logsumexp(torch.log_softmax(logits, -1) + component, -1)


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
