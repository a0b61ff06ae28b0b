"""What networks on states begin with: convolutions for frames, running statistics for vectors; and plain layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .errors import UserError


def body_of(
    state_shape: Sequence[int], normalize: bool = False, frame_body: str = "convolutions"
) -> tuple[nn.Module, int]:
    """The body for frames (H, W, C) or vectors (S,), and how many features it gives.

    frame_body: "convolutions", or "flat": one hidden layer on all pixels. Raises UserError for another one, and for
    frames with `normalize`: their pixels have one range already.
    """
    if frame_body not in FRAME_BODIES:
        raise UserError(f"unknown policy.frame_body {frame_body!r}; choose {' or '.join(FRAME_BODIES)}")
    if len(state_shape) == 3:
        if normalize:
            raise UserError("policy.normalize is for vectors; frames are scaled anyway: set policy.normalize=false")
        body = FRAME_BODIES[frame_body](state_shape)
        return body, body.FEATURES
    return Normalizer(state_shape[0]) if normalize else nn.Identity(), state_shape[0]


def _begin(layer: nn.Module, gain: float) -> None:
    """Orthogonal weights times `gain`, no bias."""
    nn.init.orthogonal_(layer.get_parameter("weight"), gain)
    nn.init.zeros_(layer.get_parameter("bias"))


class FrameBody(nn.Module):
    """u8 [N, H, W, C] to features [N, features] (Mnih et al. 2015, Nature 518).

    Orthogonal weights and pixels within ±1: with torch's own weights each layer shrinks what tells two frames apart,
    with pixels from 0 on it drowns in what they share, and some seeds never learn.
    """

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
        for layer in (*self.convolutions, *self.linear):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _begin(layer, 2**0.5)

    def forward(self, frame: Tensor) -> Tensor:
        lead = frame.shape[:-3]
        pixels = rearrange(frame.reshape(-1, *frame.shape[-3:]), "n h w c -> n c h w").float() / 127.5 - 1
        return self.linear(self.convolutions(pixels)).reshape(*lead, -1)


class FlatBody(nn.Module):
    """u8 [N, H, W, C] to features [N, 200]: one layer of rectified units on all pixels, as Karpathy 2016 ("Deep
    reinforcement learning: Pong from pixels") has it."""

    FEATURES = 200

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.linear = nn.Linear(math.prod(shape), self.FEATURES)
        _begin(self.linear, 2**0.5)

    def forward(self, frame: Tensor) -> Tensor:
        return self.linear(frame.flatten(-3).float() / 127.5 - 1).relu()


FRAME_BODIES: dict[str, Any] = {"convolutions": FrameBody, "flat": FlatBody}


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


class MLP(nn.Sequential):
    """Linear layers, activations between them; orthogonal weights, the last layer's scaled by `output_gain`.

    f32 [..., sizes[0]] to [..., sizes[-1]]. The layers are torch's own, but run as one step of autograd: at these sizes
    its bookkeeping takes several times as long as the arithmetic.
    """

    def __init__(self, sizes: Sequence[int], output_gain: float, relu: bool = False):
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(itertools.pairwise(sizes)):
            last = number == len(sizes) - 2
            linear = nn.Linear(before, after)
            _begin(linear, output_gain if last else 2**0.5)
            layers += [linear] if last else [linear, nn.ReLU() if relu else nn.Tanh()]
        super().__init__(*layers)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # which fuses the plain layers
            return super().forward(x)
        parameters: Any = [part for layer in list(self)[::2] for part in (layer.weight, layer.bias)]
        flat = x.reshape(-1, x.shape[-1])
        run = _Layers.apply if torch.is_grad_enabled() else _Layers.forward
        return run(flat, self.relu, *parameters)[-1].reshape(*x.shape[:-1], -1)


class _Layers(torch.autograd.Function):
    """x [N, S], whether ReLU (else tanh), and each layer's weight and bias: the output of every layer."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, relu: bool, *parameters: Tensor) -> tuple[Tensor, ...]:
        outputs = []
        for number in range(0, len(parameters), 2):
            x = torch.addmm(parameters[number + 1], x, parameters[number].t())
            if number + 2 < len(parameters):
                x = x.relu_() if relu else x.tanh_()
            outputs.append(x)
        return tuple(outputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, ctx.relu, *parameters = inputs
        ctx.mark_non_differentiable(*output[:-1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *output[:-1], *parameters[::2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        layers = len(ctx.saved_tensors) // 2
        seen, weights = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        above = gradients[-1]
        found: list[Tensor] = []
        for number in reversed(range(layers)):
            assert above is not None, "the last output is what a loss is made of"
            found = [above.t() @ seen[number], above.sum(0), *found]
            if number or ctx.needs_input_grad[0]:
                above = above @ weights[number]
            if number:
                slope = torch.ops.aten.threshold_backward if ctx.relu else torch.ops.aten.tanh_backward
                above = slope(above, seen[number], 0) if ctx.relu else slope(above, seen[number])
        return above if ctx.needs_input_grad[0] else None, None, *found
