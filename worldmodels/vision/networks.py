"""V's networks. Frames f32 [N, 3, 64, 64] in [0, 1]; latents [N, Z]."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from ..types import Posterior

CHANNELS = (32, 64, 128, 256)


class PaperEncoder(nn.Module):
    """Four strided convolutions and two linear heads (Ha & Schmidhuber 2018, arXiv 1803.10122, appendix A.1).

    width scales the channels; 1 is the paper's network, 4,348,547 parameters with its decoder at latent_dim 32.
    """

    def __init__(self, latent_dim: int, width: float = 1.0):
        super().__init__()
        channels = [3, *(int(c * width) for c in CHANNELS)]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, stride=2), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten())  # 64 → 31 → 14 → 6 → 2
        self.mean = nn.Linear(4 * channels[-1], latent_dim)
        self.log_std = nn.Linear(4 * channels[-1], latent_dim)

    def forward(self, frame: Tensor) -> Posterior:
        features = self.body(frame)
        return Posterior(self.mean(features), self.log_std(features))


class PaperDecoder(nn.Module):
    """A linear layer and four strided transposed convolutions (arXiv 1803.10122, appendix A.1)."""

    def __init__(self, latent_dim: int, width: float = 1.0):
        super().__init__()
        a, b, c, d = (int(channel * width) for channel in CHANNELS)
        self.body = nn.Sequential(
            nn.Linear(latent_dim, 4 * d),
            nn.Unflatten(1, (4 * d, 1, 1)),
            nn.ConvTranspose2d(4 * d, c, 5, stride=2),  # 1 → 5
            nn.ReLU(),
            nn.ConvTranspose2d(c, b, 5, stride=2),  # 5 → 13
            nn.ReLU(),
            nn.ConvTranspose2d(b, a, 6, stride=2),  # 13 → 30
            nn.ReLU(),
            nn.ConvTranspose2d(a, 3, 6, stride=2),  # 30 → 64
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z)


class LeanEncoder(nn.Module):
    """Patches of 4×4 as tokens, then two strided convolutions: 64 → 16 → 8 → 4."""

    def __init__(self, latent_dim: int, width: float = 1.0):
        super().__init__()
        a, b, c = (int(channel * width) for channel in CHANNELS[:3])
        self.body = nn.Sequential(
            nn.Conv2d(3, a, 4, stride=4),
            nn.ReLU(),
            nn.Conv2d(a, b, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(b, c, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(16 * c, latent_dim)
        self.log_std = nn.Linear(16 * c, latent_dim)

    def forward(self, frame: Tensor) -> Posterior:
        features = self.body(frame)
        return Posterior(self.mean(features), self.log_std(features))


class LeanDecoder(nn.Module):
    """Convolutions at low resolution, pixels shuffled out of channels (Shi et al. 2016, arXiv 1609.05158)."""

    def __init__(self, latent_dim: int, width: float = 1.0):
        super().__init__()
        a, b, c = (int(channel * width) for channel in CHANNELS[:3])
        self.body = nn.Sequential(
            nn.Linear(latent_dim, 16 * c),
            nn.Unflatten(1, (c, 4, 4)),
            nn.ReLU(),
            nn.Conv2d(c, 4 * b, 3, padding=1),
            nn.PixelShuffle(2),  # 4 → 8
            nn.ReLU(),
            nn.Conv2d(b, 4 * a, 3, padding=1),
            nn.PixelShuffle(2),  # 8 → 16
            nn.ReLU(),
            nn.Conv2d(a, 3 * 16, 3, padding=1),
            nn.PixelShuffle(4),  # 16 → 64
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z)


NETWORKS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "paper": (PaperEncoder, PaperDecoder),
    "lean": (LeanEncoder, LeanDecoder),
}
