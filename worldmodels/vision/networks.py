"""V's networks. Frames f32 [N, 3, 64, 64] in [0, 1]; latents [N, Z].

The layers of the first part are torch's own, computed another way: same weights, same sums, less time.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..types import Posterior

CHANNELS = (32, 64, 128, 256)


class FewPlacesConv2d(nn.Conv2d):
    """A convolution that looks at few places: their patches side by side are the rows of one matrix product.

    Equal to nn.Conv2d without padding, whose kernels need images to be fast.
    """

    def forward(self, input: Tensor) -> Tensor:
        (height, width), (down, right) = self.kernel_size, self.stride
        rows = range(0, input.shape[2] - height + 1, down)
        columns = range(0, input.shape[3] - width + 1, right)
        pixels = input.permute(0, 2, 3, 1)
        patches = torch.stack([pixels[:, y : y + height, x : x + width] for y in rows for x in columns], 1)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        found = functional.linear(patches.flatten(2), weight, self.bias)
        return found.unflatten(1, (len(rows), len(columns))).permute(0, 3, 1, 2)


class VectorToImage(nn.ConvTranspose2d):
    """A transposed convolution of a single pixel, [N, C, 1, 1] to an image of the kernel's size: one matrix product.

    Equal to nn.ConvTranspose2d without padding, which took half of the paper network's time for it.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        size = self.kernel_size
        bias = None if self.bias is None else self.bias.repeat(size[0] * size[1])
        weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        return functional.linear(input.flatten(1), weight, bias).unflatten(1, (*size, -1)).permute(0, 3, 1, 2)


class ShuffledConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution of stride 2 as a convolution and a shuffle: each output parity has its own kernel.

    out[2q + p] = Σⱼ x[q − j] w[2j + p]. Equal to nn.ConvTranspose2d without padding, for even kernels; faster for few
    output channels (Shi et al. 2016, arXiv 1609.07009).
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        inputs, outputs, size, _ = self.weight.shape
        half = size // 2
        phases = self.weight.view(inputs, outputs, half, 2, half, 2).flip(2, 4).permute(3, 5, 1, 0, 2, 4)
        weight = phases.reshape(4 * outputs, inputs, half, half).contiguous(memory_format=torch.channels_last)
        bias = None if self.bias is None else self.bias.repeat(4)
        found = functional.conv2d(input, weight, bias, padding=half - 1).permute(0, 2, 3, 1)
        parity = found.unflatten(3, (2, 2, outputs)).transpose(2, 3)  # n h 2 w 2 c
        return parity.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class LateBiasConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution whose bias is added afterwards: its gradient is a plain sum then.

    Equal to nn.ConvTranspose2d without padding, whose kernel takes a fifth of its backward pass for that sum.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        image = functional.conv_transpose2d(input, self.weight, None, self.stride)
        return image if self.bias is None else image + self.bias[:, None, None]


class PaperEncoder(nn.Module):
    """Four strided convolutions and two linear heads (Ha & Schmidhuber 2018, arXiv 1803.10122, appendix A.1).

    width scales the channels; 1 is the paper's network, 4,348,547 parameters with its decoder at latent_dim 32.
    """

    def __init__(self, latent_dim: int, width: float = 1.0):
        super().__init__()
        channels = [3, *(int(c * width) for c in CHANNELS)]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            convolution = FewPlacesConv2d if after == channels[-1] else nn.Conv2d
            layers += [convolution(before, after, 4, stride=2), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten())  # 64 → 31 → 14 → 6 → 2
        self.mean = nn.Linear(4 * channels[-1], latent_dim)
        self.log_std = nn.Linear(4 * channels[-1], latent_dim)

    def forward(self, frame: Tensor) -> Posterior:
        features = self.body(frame)
        return Posterior(self.mean(features).float(), self.log_std(features).float())


class PaperDecoder(nn.Module):
    """A linear layer and four strided transposed convolutions (arXiv 1803.10122, appendix A.1)."""

    def __init__(self, latent_dim: int, width: float = 1.0):
        super().__init__()
        a, b, c, d = (int(channel * width) for channel in CHANNELS)
        self.body = nn.Sequential(
            nn.Linear(latent_dim, 4 * d),
            nn.Unflatten(1, (4 * d, 1, 1)),
            VectorToImage(4 * d, c, 5, stride=2),  # 1 → 5
            nn.ReLU(),
            LateBiasConvTranspose2d(c, b, 5, stride=2),  # 5 → 13
            nn.ReLU(),
            LateBiasConvTranspose2d(b, a, 6, stride=2),  # 13 → 30
            nn.ReLU(),
            ShuffledConvTranspose2d(a, 3, 6, stride=2),  # 30 → 64
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z)


class LeanEncoder(nn.Module):
    """Patches of 4×4 as tokens, then two strided convolutions: 64 → 16 → 8 → 4."""

    def __init__(self, latent_dim: int, width: float = 1.0):
        super().__init__()
        a, b, c = (int(channel * width) for channel in (32, 48, 96))
        self.body = nn.Sequential(
            nn.Conv2d(3, a, 4, stride=4),
            nn.GELU(),
            nn.Conv2d(a, b, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(b, c, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(16 * c, latent_dim)
        self.log_std = nn.Linear(16 * c, latent_dim)

    def forward(self, frame: Tensor) -> Posterior:
        features = self.body(frame)
        return Posterior(self.mean(features).float(), self.log_std(features).float())


class LeanDecoder(nn.Module):
    """Convolutions at low resolution, pixels shuffled out of channels (Shi et al. 2016, arXiv 1609.05158)."""

    def __init__(self, latent_dim: int, width: float = 1.0):
        super().__init__()
        channels = [int(channel * width) for channel in (112, 56, 32, 16)]
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, 16 * channels[0]),
            nn.Unflatten(1, (channels[0], 4, 4)),
            nn.GELU(),
        ]
        for before, after in itertools.pairwise(channels):  # 4 → 8 → 16 → 32
            layers += [nn.Conv2d(before, 4 * after, 3, padding=1), nn.PixelShuffle(2), nn.GELU()]
        layers += [nn.Conv2d(channels[-1], 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid()]  # 32 → 64
        self.body = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z)


NETWORKS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "paper": (PaperEncoder, PaperDecoder),
    "lean": (LeanEncoder, LeanDecoder),
}
