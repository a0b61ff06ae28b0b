"""What several contests work on, and what the machine's matrix product would allow them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from harness import rate

from worldmodels.envs.make import EnvSettings
from worldmodels.rollouts.replay import Replay
from worldmodels.types import Posterior

# CarRacing as we have it and as it comes
FAST = EnvSettings("worldmodels/CarRacing-v3", {"size": 64})
STOCK = EnvSettings("CarRacing-v3", {}, crop_rows=84, frame_size=64)
BOX = {"type": "box", "low": [-1.0, 0.0, 0.0], "high": [1.0, 1.0, 1.0]}
LENGTH, BATCH, LATENT, HIDDEN = 32, 64, 32, 256
# forward and backward of the LSTM's and the heads' products, for one step of M
MEMORY_FLOPS = 3 * 2 * ((LATENT + 3 + HIDDEN) * 4 * HIDDEN + HIDDEN * (15 * LATENT + 2))


def gemm(flops_per_sample: float, m: int, n: int, k: int) -> Callable[[], tuple[str, float]]:
    """What the machine's matrix product of this shape, fp32, would allow."""

    def limit() -> tuple[str, float]:
        a, b = torch.rand(m, k), torch.rand(k, n)

        def product() -> int:
            torch.mm(a, b)
            return 2 * m * n * k

        return "GEMM", rate(product, 1.0) / flops_per_sample

    return limit


def synthetic_frames(count: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


def latent_replay(episodes: int = 100, steps: int = 500, device: torch.device | str = "cpu") -> Replay:
    rows = episodes * (steps + 1)
    generator = torch.Generator().manual_seed(0)
    mean, action = torch.randn(rows, LATENT, generator=generator), torch.randn(rows, 3, generator=generator)
    posterior = Posterior(mean.to(device), torch.full((rows, LATENT), -2.0, device=device))
    zeros = torch.zeros(rows, device=device)
    return Replay(posterior, action.to(device), zeros, zeros.bool(), [steps] * episodes)
