import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl
from torch.utils.flop_counter import FlopCounterMode

from worldmodels.errors import UserError
from worldmodels.types import Posterior
from worldmodels.vision.vae import VAE, kl_divergence, latent_use, sample

FRAMES = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["paper", "lean"])
def vae(request):
    torch.manual_seed(0)
    return VAE(request.param, latent_dim=8, width=0.25)


def test_kl_divergence_against_torch():
    posterior = Posterior(torch.randn(50, 7, dtype=torch.float64) * 3, torch.randn(50, 7, dtype=torch.float64))
    ours = kl_divergence(posterior)
    theirs = reference_kl(Normal(posterior.mean, posterior.log_std.exp()), Normal(0.0, 1.0)).sum(-1)
    assert torch.allclose(ours, theirs, rtol=1e-12)
    assert kl_divergence(Posterior(torch.zeros(1, 4), torch.zeros(1, 4))).item() == 0


def test_a_dimension_is_active_where_its_mean_varies_by_more_than_a_hundredth():
    """Means of ±0.2, ±0.05 and always 3; variances 0.04, 0.0025 and 0. KL ½μ² each, since σ is 1."""
    mean = torch.tensor([[0.2, 0.05, 3.0], [-0.2, -0.05, 3.0], [0.2, -0.05, 3.0], [-0.2, 0.05, 3.0]]).double()
    batches = [Posterior(part, torch.zeros_like(part)) for part in mean.split(3)]
    found = latent_use(batches)
    assert found.variance.tolist() == pytest.approx([0.04, 0.0025, 0.0])
    assert found.active.tolist() == [True, False, False]
    assert found.kl.tolist() == pytest.approx([0.02, 0.00125, 4.5])


def test_loss_is_squared_error_plus_the_kl_above_its_tolerance(vae):
    torch.manual_seed(1)
    losses = vae.loss(FRAMES)
    torch.manual_seed(1)
    x = FRAMES.permute(0, 3, 1, 2).double() / 255
    reconstruction, posterior = vae(x.float())
    error = ((reconstruction.double() - x) ** 2).sum() / 6
    kl = kl_divergence(posterior)
    assert losses["reconstruction"].item() == pytest.approx(error.item(), rel=1e-5)
    assert losses["kl"].item() == pytest.approx(kl.mean().item(), rel=1e-5)
    assert kl.max() < 0.5 * 8, "an untrained V is below the tolerance"
    assert losses["loss"].item() == pytest.approx(error.item() + 0.5 * 8, rel=1e-5)
    vae.kl_tolerance, vae.kl_weight = 0.0, 3.0
    torch.manual_seed(1)
    assert vae.loss(FRAMES)["loss"].item() == pytest.approx(error.item() + 3 * kl.mean().item(), rel=1e-5)


def test_no_kl_gradient_within_the_tolerance(vae):
    def gradient():
        vae.zero_grad()
        torch.manual_seed(1)
        vae.loss(FRAMES)["loss"].backward()
        return vae.encoder.log_std.weight.grad.clone()

    tolerant = gradient()
    vae.kl_weight = 0.0
    assert torch.equal(tolerant, gradient())
    vae.kl_weight, vae.kl_tolerance = 1.0, 0.0
    assert not torch.allclose(tolerant, gradient())


def test_samples_have_the_posterior_s_moments():
    posterior = Posterior(torch.tensor([2.0, -1.0]).expand(200_000, 2), torch.tensor([0.5, -1.0]).expand(200_000, 2))
    z = sample(posterior, torch.Generator().manual_seed(0))
    assert torch.allclose(z.mean(0), torch.tensor([2.0, -1.0]), atol=0.02)
    assert torch.allclose(z.std(0).log(), torch.tensor([0.5, -1.0]), atol=0.01)


def test_frames_and_back(vae):
    posterior = vae.encode(FRAMES)
    assert posterior.mean.shape == (6, 8)
    image = vae.decode(posterior.mean)
    assert image.shape == FRAMES.shape and image.dtype == torch.uint8


@pytest.mark.parametrize("network", ["paper", "lean"])
def test_it_learns_two_pictures(network):
    torch.manual_seed(0)
    vae = VAE(network, latent_dim=4, width=0.25, kl_weight=0.01, learning_rate=3e-3)
    frames = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    frames[0, :32], frames[1, :, :32] = 200, 120
    optimizer = vae.configure_optimizers()
    for _ in range(300):
        optimizer.zero_grad()
        vae.loss(frames)["loss"].backward()
        optimizer.step()
    seen = vae.decode(vae.encode(frames).mean).int()
    assert (seen - frames.int()).abs().float().mean() < 12
    assert (seen[0] - frames[1].int()).abs().float().mean() > 40


def test_the_lean_network_costs_less_than_half():
    """Multiplications of one frame, forward and backward, counted by torch."""
    costs = {}
    for network in ("paper", "lean"):
        vae = VAE(network)
        with FlopCounterMode(display=False) as counter:
            vae.loss(FRAMES[:1])["loss"].backward()
        costs[network] = counter.get_total_flops()
    assert costs["paper"] == pytest.approx(230e6, rel=0.05), "as the design measured it"
    assert costs["lean"] < 0.5 * costs["paper"]


def test_frames_of_another_size_are_refused(vae):
    with pytest.raises(UserError, match="frame_size=64"):
        vae.loss(torch.zeros(2, 96, 96, 3, dtype=torch.uint8))
    with pytest.raises(UserError, match="paper or lean"):
        VAE("deep")
