"""What networks on states begin with: convolutions for frames, running statistics for vectors; and plain layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from .errors import UserError


def body_of(state_shape: Sequence[int], normalize: bool = False) -> tuple[nn.Module, int]:
    """The body for frames (H, W, C) or vectors (S,), and how many features it gives.

    Raises UserError for frames with `normalize`: their pixels have one range already.
    """
    if len(state_shape) == 3:
        if normalize:
            raise UserError("policy.normalize is for vectors; frames are scaled anyway: set policy.normalize=false")
        return FrameBody(state_shape), FrameBody.FEATURES
    return Normalizer(state_shape[0]) if normalize else nn.Identity(), state_shape[0]


class FrameBody(nn.Module):
    """u8 [N, H, W, C] to features [N, features] (Mnih et al. 2015, Nature 518)."""

    FEATURES = 256

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        height, width, channels = shape
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            size = self.convolutions(torch.zeros(1, channels, height, width)).shape[1]
        self.linear = nn.Sequential(nn.Linear(size, self.FEATURES), nn.ReLU())

    def forward(self, frame: Tensor) -> Tensor:
        lead = frame.shape[:-3]
        pixels = rearrange(frame.reshape(-1, *frame.shape[-3:]), "n h w c -> n c h w").float() / 255
        return self.linear(self.convolutions(pixels)).reshape(*lead, -1)


class Normalizer(nn.Module):
    """Vectors [..., S] less the mean, over the standard deviation, of all that `observe` was shown; within ±10.

    The parts' moments are merged exactly (Chan et al. 1979, eq. 2.1). Until the first they pass as they are.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor  # Σ (x − mean)²

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))

    @torch.no_grad()
    def observe(self, vectors: Tensor) -> None:
        """Vectors [..., S], one or more."""
        x = vectors.reshape(-1, vectors.shape[-1]).double()
        count = self.count + len(x)
        away = x.mean(0) - self.mean
        self.squares += (x - x.mean(0)).square().sum(0) + away.square() * self.count * len(x) / count
        self.mean += away * len(x) / count
        self.count.copy_(count)

    def forward(self, vector: Tensor) -> Tensor:
        deviation = (self.squares / self.count.clamp(min=1)).sqrt()
        deviation = torch.where((self.count > 0) & (deviation > 1e-6), deviation, 1.0)
        return ((vector - self.mean.float()) / deviation.float()).clamp(-10, 10)


def mlp(sizes: Sequence[int], output_gain: float, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """Linear layers, activations between them; orthogonal weights, the last layer's scaled by `output_gain`."""
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(itertools.pairwise(sizes)):
        last = number == len(sizes) - 2
        linear = nn.Linear(before, after)
        nn.init.orthogonal_(linear.weight, output_gain if last else 2**0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, activation()]
    return nn.Sequential(*layers)
