"""V, a variational autoencoder of single frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from ..errors import UserError
from ..module import Supervised
from ..types import Posterior
from .networks import NETWORKS

ACTIVE = 0.01  # variance of the posterior's mean over frames, above which a latent dimension carries something


class LatentUse(NamedTuple):
    """What V's latent dimensions carry, over some frames."""

    kl: Tensor  # f32 [Z] nats, mean over the frames
    variance: Tensor  # f32 [Z] of the posterior's mean over the frames
    active: Tensor  # bool [Z]: the variance is above ACTIVE


def kl_per_dimension(posterior: Posterior) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½(μ² + σ² − 1) − log σ of each latent dimension: [N, Z] nats.

    Kingma & Welling 2014, arXiv 1312.6114, appendix B.
    """
    mean, log_std = posterior
    return 0.5 * (mean.square() + torch.exp(2 * log_std) - 1) - log_std


def kl_divergence(posterior: Posterior) -> Tensor:
    """The sum of `kl_per_dimension` over the latent dimensions: f32 [N, Z] to [N] nats."""
    return kl_per_dimension(posterior).sum(-1)


def latent_use(posteriors: Sequence[Posterior]) -> LatentUse:
    """Of batches of frames, Posterior [N, Z] each, as one. Active units: Burda et al. 2016, arXiv 1509.00519, 5.3."""
    together = Posterior(*(torch.cat(parts) for parts in zip(*posteriors, strict=True)))
    variance = together.mean.var(0, correction=0)
    return LatentUse(kl_per_dimension(together).mean(0), variance, variance > ACTIVE)


def sample(posterior: Posterior, generator: torch.Generator | None = None) -> Tensor:
    """z = μ + σ ε, drawn anew at each call: Posterior [..., Z] to f32 [..., Z]."""
    noise = torch.empty_like(posterior.mean).normal_(generator=generator)
    return torch.addcmul(posterior.mean, posterior.log_std.exp(), noise)


def as_input(frame: Tensor) -> Tensor:
    """Stored frames u8 [N, H, W, C] to what the networks take: f32 [N, C, H, W] in [0, 1], channels-last in memory."""
    return rearrange(frame, "n h w c -> n c h w").float().div_(255)


class VAE(Supervised):
    """Loss = Σ squared error + kl_weight · max(KL, kl_tolerance · Z), averaged over the batch.

    Ha & Schmidhuber 2018 (arXiv 1803.10122, appendix A.1 and the authors' code): latent_dim 32, kl_tolerance 0.5.
    network: "paper", or "lean" at less than half its cost; width scales the channels of either.

    Raises UserError for an unknown network and for frames that are not 64×64.
    """

    kind = "vision"

    def __init__(
        self,
        network: str = "lean",
        latent_dim: int = 32,
        width: float = 1.0,
        kl_weight: float = 1.0,
        kl_tolerance: float = 0.5,
        learning_rate: float = 1e-4,
        anneal: bool = False,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.latent_dim, self.learning_rate, self.anneal = latent_dim, learning_rate, anneal
        self.kl_weight, self.kl_tolerance = kl_weight, kl_tolerance
        if network not in NETWORKS:
            raise UserError(f"unknown vision.model.network {network!r}; choose {' or '.join(NETWORKS)}")
        encoder, decoder = NETWORKS[network]
        self.encoder, self.decoder = encoder(latent_dim, width), decoder(latent_dim, width)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, frame: Tensor) -> tuple[Tensor, Posterior]:
        posterior = self.encoder(frame)
        return self.decoder(sample(posterior)), posterior

    def loss(self, frame: Tensor) -> dict[str, Tensor]:
        """`loss`, `reconstruction` (summed squared error per frame) and `kl` (nats per frame) of u8 [N, 64, 64, 3]."""
        if frame.shape[1:] != (64, 64, 3):
            raise UserError(f"V sees frames of 64×64×3, not {tuple(frame.shape[1:])}; collect with env.frame_size=64")
        target = as_input(frame)
        reconstruction, posterior = self(target)
        error = (reconstruction - target).square().sum((1, 2, 3)).mean()
        kl = kl_divergence(posterior)
        tolerated = kl.clamp(min=self.kl_tolerance * self.latent_dim).mean()
        return {"loss": error + self.kl_weight * tolerated, "reconstruction": error, "kl": kl.mean()}

    @torch.no_grad()
    def encode(self, frame: Tensor) -> Posterior:
        """u8 [N, 64, 64, 3] to Posterior [N, Z]."""
        return self.encoder(as_input(frame.to(self.device)))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """f32 [N, Z] to u8 [N, 64, 64, 3]."""
        image = self.decoder(z.to(self.device)).mul(255).round_().clamp_(0, 255)
        return rearrange(image, "n c h w -> n h w c").to(torch.uint8)
