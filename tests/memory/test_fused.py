import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from worldmodels.memory.fused import FusedMDNRNN
from worldmodels.memory.mdnrnn import MDNRNN


@pytest.mark.parametrize("restart_input", [False, True])
def test_a_step_equals_the_network_s(restart_input):
    torch.manual_seed(0)
    network = MDNRNN(4, 3, hidden_dim=16, restart_input=restart_input)
    fused = FusedMDNRNN(network)
    z, action = torch.randn(7, 4), torch.randn(7, 3)
    state = network.initial_state(7)
    other = state
    with torch.no_grad():
        for _ in range(5):
            state = network.step(z, action, torch.zeros(7, dtype=torch.bool), state)
            other, heads = fused.step(z, action, other)
            assert torch.allclose(other.h, state.h, atol=1e-6) and torch.allclose(other.c, state.c, atol=1e-6)
            prediction = network.predict(state.h)
            assert torch.allclose(heads[:, -2], prediction.reward, atol=1e-6)
            assert torch.allclose(heads[:, -1], prediction.terminated_logit, atol=1e-6)
            for part, mine in zip(prediction.next_z, heads[:, :-2].view(7, 3, 5, 4).unbind(1), strict=True):
                assert torch.allclose(mine.transpose(1, 2), part, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.3])
def test_draws_follow_the_tempered_mixture(temperature):
    """Kolmogorov–Smirnov for each of two latents against the mixture's distribution function, 1 % level."""
    torch.manual_seed(1)
    fused = FusedMDNRNN(MDNRNN(2, 1, hidden_dim=4, mixtures=3))
    logits, mean, log_std = torch.randn(3, 3, 2) * torch.tensor([1.0, 3.0, 0.5])[:, None, None]
    heads = torch.cat([torch.cat([part.flatten() for part in (logits, mean, log_std)]), torch.zeros(2)])
    n = 20_000
    generator = torch.Generator().manual_seed(0)
    uniform, noise = torch.rand(n, 2, generator=generator), torch.randn(n, 2, generator=generator)
    z = fused.draw(heads.expand(n, -1), uniform, noise, temperature)
    for latent in range(2):
        reference = MixtureSameFamily(
            Categorical(logits=logits[:, latent] / temperature),
            Normal(mean[:, latent], log_std[:, latent].exp() * math.sqrt(temperature)),
        )
        distance = (reference.cdf(z[:, latent].sort().values) - (torch.arange(n) + 0.5) / n).abs().max()
        assert distance < 1.63 / math.sqrt(n)


def test_compiled_or_not_it_is_the_same():
    torch.manual_seed(0)
    network = MDNRNN(4, 3, hidden_dim=16)
    z, action, noise, uniform = torch.randn(7, 4), torch.randn(7, 3), torch.randn(7, 4), torch.rand(7, 4)
    inputs = (z, action, network.initial_state(7), uniform, noise, 0.7)
    with torch.no_grad():
        plain, compiled = FusedMDNRNN(network).advance(*inputs), FusedMDNRNN(network, compiles=True).advance(*inputs)
    for one, other in zip(plain, compiled, strict=True):
        for a, b in zip(*((x if isinstance(x, tuple) else (x,)) for x in (one, other)), strict=True):
            assert torch.allclose(a, b, atol=1e-5)
