import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from worldmodels.memory.mixture import components_used, log_prob, sample
from worldmodels.types import Mixture


def random_mixture(*shape, dtype=torch.float32, spread=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Mixture(*(spread * torch.randn(*shape, generator=generator, dtype=dtype) for _ in range(3)))


@pytest.mark.parametrize("shape", [(7, 5, 3, 5), (1, 4, 2, 5), (6, 1, 2, 5), (3, 4, 2, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_log_prob_against_torch(shape, dtype, tolerance):
    mixture = random_mixture(*shape, dtype=dtype)
    x = torch.randn(shape[:-1], dtype=dtype)
    reference = MixtureSameFamily(Categorical(logits=mixture.logits), Normal(mixture.mean, mixture.log_std.exp()))
    expected = reference.log_prob(x)
    assert ((log_prob(mixture, x) - expected).abs() <= tolerance * (1 + expected.abs())).all()


def test_log_prob_by_hand():
    """½ N(0; 0, 1) + ½ N(0; 2, 1) = (1 + e⁻²) / (2 √(2π))."""
    mixture = Mixture(torch.zeros(1, 2), torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
    expected = math.log((1 + math.exp(-2)) / (2 * math.sqrt(2 * math.pi)))
    assert log_prob(mixture, torch.zeros(1)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("log_std", [-200.0, -20.0, 0.0, 20.0, 200.0])
@pytest.mark.parametrize("target", [0.0, -1e6, 1e6])
def test_loss_and_gradient_stay_finite(log_std, target):
    parts = [torch.randn(2, 3, 5), torch.randn(2, 3, 5), torch.full((2, 3, 5), log_std)]
    for part in parts:
        part.requires_grad_(True)
    loss = -log_prob(Mixture(*parts), torch.full((2, 3), target)).mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(part.grad).all() for part in parts)


def test_half_precision_is_computed_in_single():
    mixture = Mixture(*(part.bfloat16() for part in random_mixture(4, 3, 5)))
    x = torch.randn(4, 3)
    assert log_prob(mixture, x).dtype == torch.float32
    assert torch.equal(log_prob(mixture, x), log_prob(Mixture(*(part.float() for part in mixture)), x))


def test_samples_follow_the_density():
    """Kolmogorov–Smirnov against the mixture's distribution function, 1 % level."""
    mixture = Mixture(torch.tensor([1.0, 0.0, -1.0]), torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([-0.5, 0.3, -1.0]))
    n = 20_000
    z = sample(Mixture(*(part.expand(n, 3) for part in mixture)), generator=torch.Generator().manual_seed(0))
    reference = MixtureSameFamily(Categorical(logits=mixture.logits), Normal(mixture.mean, mixture.log_std.exp()))
    distance = (reference.cdf(z.sort().values) - (torch.arange(n) + 0.5) / n).abs().max()
    assert distance < 1.63 / math.sqrt(n)


@pytest.mark.parametrize("temperature", [0.1, 1.3])
def test_temperature_divides_the_logits_and_scales_the_noise_by_its_root(temperature):
    n = 100_000
    mixture = Mixture(
        *(part.expand(n, 2) for part in (torch.tensor([1.0, 0.0]), torch.tensor([-50.0, 50.0]), torch.zeros(2)))
    )
    z = sample(mixture, temperature, torch.Generator().manual_seed(0))
    share = (z < 0).double().mean().item()
    assert share == pytest.approx(1 / (1 + math.exp(-1 / temperature)), abs=0.006)
    assert (z[z < 0] + 50).std().item() == pytest.approx(math.sqrt(temperature), rel=0.02)


def test_shapes_and_temperatures_that_make_no_sense():
    mixture = random_mixture(4, 3, 5)
    with pytest.raises(ValueError, match="needs x"):
        log_prob(mixture, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="positive"):
        sample(mixture, 0.0)


def test_gradient_against_torch():
    mixture = random_mixture(6, 3, 5, dtype=torch.float64, seed=3)
    # as M hands it over: the components apart in memory, and one log σ beyond the range that is clamped
    mixture.log_std[0, 0, 0] = 12.0
    parts = [part.transpose(-1, -2).contiguous().transpose(-1, -2).requires_grad_(True) for part in mixture]
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 3, dtype=torch.float64)
    ours = torch.autograd.grad((log_prob(Mixture(*parts), x) * weight).sum(), [*parts, x])
    std = parts[2].clamp(-10, 10).exp()
    reference = MixtureSameFamily(Categorical(logits=parts[0]), Normal(parts[1], std))
    theirs = torch.autograd.grad((reference.log_prob(x) * weight).sum(), [*parts, x])
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    assert ours[2][0, 0, 0] == 0, "clamped"


def test_components_used_counts_those_that_share_the_work():
    """¼, ¼ and ½ have an entropy of 1.5 log 2, so 2^1.5; an unused component counts for nothing."""
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.5, 0.0]])
    assert components_used(weights).tolist() == pytest.approx([1.0, 4.0, 2**1.5])
