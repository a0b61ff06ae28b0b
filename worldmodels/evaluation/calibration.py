"""Whether a predicted distribution means what it says."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from ..memory.mixture import LOG_STD_RANGE
from ..types import Mixture

LEVELS = (0.5, 0.9)  # of central intervals
TOLERANCE = 0.05  # by which a calibrated model's coverage may miss each level


class Calibration(NamedTuple):
    """Of predictions by their values of the distribution function at what came."""

    n: int
    histogram: list[float]  # density in ten bins of [0, 1]; 1 everywhere where calibrated
    distance: float  # largest, between their distribution function and the uniform one's (Kolmogorov–Smirnov)
    coverage: list[float]  # share of outcomes within the central interval of each of LEVELS
    calibrated: bool  # whether each coverage is within TOLERANCE of its level


def probability_integral(mixture: Mixture, x: Tensor) -> Tensor:
    """F(x) = Σₖ πₖ Φ((x − μₖ)/σₖ) of mixtures [..., Z, K] at x [..., Z]: uniform on [0, 1] where the mixture is true.

    Dawid 1984 (J. R. Stat. Soc. A 147). Raises ValueError where the shapes do not fit.
    """
    if mixture.mean.shape[:-1] != x.shape:
        raise ValueError(f"a mixture {tuple(mixture.mean.shape)} needs x {tuple(mixture.mean.shape[:-1])}: {x.shape}")
    distance = (x.unsqueeze(-1) - mixture.mean) * torch.exp(-mixture.log_std.clamp(*LOG_STD_RANGE))
    return (torch.softmax(mixture.logits, -1) * torch.special.ndtr(distance)).sum(-1)


def calibration(integrals: np.ndarray) -> Calibration:
    """Of values of `probability_integral`, any shape. Raises ValueError for none."""
    values = np.asarray(integrals, np.float64).ravel()
    if not len(values):
        raise ValueError("no predictions to judge")
    histogram, _ = np.histogram(values, bins=10, range=(0, 1), density=True)
    coverage = [float((np.abs(values - 0.5) <= level / 2).mean()) for level in LEVELS]
    near = all(abs(found - level) <= TOLERANCE for found, level in zip(coverage, LEVELS, strict=True))
    distance = float(stats.kstest(values, "uniform").statistic)
    return Calibration(len(values), histogram.tolist(), distance, coverage, near)


def moments(mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [..., Z] of mixtures [..., Z, K]."""
    weight = torch.softmax(mixture.logits, -1)
    mean = (weight * mixture.mean).sum(-1)
    within = torch.exp(2 * mixture.log_std.clamp(*LOG_STD_RANGE))
    between = (mixture.mean - mean.unsqueeze(-1)).square()  # rather than E[x²] − mean², which cancels
    return mean, (weight * (within + between)).sum(-1).sqrt()


def gaussian_nll(error: Tensor, deviation: Tensor) -> Tensor:
    """−log N(error; 0, deviation²), elementwise."""
    return 0.5 * (error / deviation).square() + deviation.log() + 0.5 * math.log(2 * math.pi)
