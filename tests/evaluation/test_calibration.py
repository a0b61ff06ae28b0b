"""The calibration check on distributions that are known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, MixtureSameFamily, Normal

from worldmodels.evaluation.calibration import calibration, gaussian_nll, moments, probability_integral
from worldmodels.types import Mixture


def gaussian(std, count=20_000):
    """What predicts N(0, std²) for each of `count` outcomes, as a mixture of two equal halves."""
    shape = (count, 1, 2)
    return Mixture(torch.zeros(shape), torch.zeros(shape), torch.full(shape, math.log(std)))


@pytest.mark.parametrize(("std", "calibrated"), [(1.0, True), (0.5, False), (2.0, False)])
def test_a_known_gaussian_passes_and_an_overconfident_or_timid_one_fails(std, calibrated):
    """Coverage of the central 50 % under N(0, std²) of N(0, 1): 2 Φ(0.6745 std) − 1."""
    outcome = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    found = calibration(probability_integral(gaussian(std), outcome).numpy())
    assert found.calibrated == calibrated and found.n == 20_000
    for level, coverage in zip((0.5, 0.9), found.coverage, strict=True):
        assert coverage == pytest.approx(2 * stats.norm.cdf(stats.norm.ppf(0.5 + level / 2) * std) - 1, abs=0.01)
    assert np.mean(found.histogram) == pytest.approx(1)
    if calibrated:
        assert found.distance < 0.01 and max(found.histogram) < 1.1
    elif std < 1:
        assert found.histogram[0] > 1.5 < found.histogram[-1], "too many surprises on both sides"


def test_integral_and_moments_are_those_of_torch_s_mixture():
    torch.manual_seed(0)
    mixture = Mixture(*(torch.randn(6, 3, 5, dtype=torch.float64) for _ in range(3)))
    peer = MixtureSameFamily(
        Categorical(logits=mixture.logits), Normal(mixture.mean, mixture.log_std.exp()), validate_args=False
    )
    x = torch.randn(6, 3, dtype=torch.float64)
    assert torch.allclose(probability_integral(mixture, x), peer.cdf(x))
    mean, deviation = moments(mixture)
    assert torch.allclose(mean, peer.mean) and torch.allclose(deviation, peer.variance.sqrt())
    assert torch.allclose(gaussian_nll(x - mean, deviation), -Normal(mean, deviation).log_prob(x))
    with pytest.raises(ValueError, match="needs x"):
        probability_integral(mixture, x[:, :2])
    with pytest.raises(ValueError, match="no predictions"):
        calibration(np.zeros(0))
