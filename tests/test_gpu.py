"""On a GPU: the same numbers as on the CPU, and what is recorded and compiled beside what is not."""

import pytest
import torch

from worldmodels.memory.fused import FusedMDNRNN
from worldmodels.memory.training import Memory
from worldmodels.policy_gradient.policies import Policy
from worldmodels.policy_gradient.ppo import PPO
from worldmodels.types import MemoryState, Posterior, Window
from worldmodels.vision import vae as vae_module
from worldmodels.vision.vae import VAE
from worldmodels.worlds.dream_world import DreamWorld, contexts_as_plain, contexts_from_plain

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
NO_ENDS = {"terminated": torch.zeros(12, 8, dtype=torch.bool), "valid": torch.ones(12, 8, dtype=torch.bool)}
BOX = {"type": "box", "low": [-1.0, -1.0], "high": [1.0, 1.0]}


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Without TF32, whose products have ten bits behind the point."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    torch._dynamo.reset()


def make_window(device="cpu", steps=12, batch=8):
    generator = torch.Generator().manual_seed(0)
    mean, action = (
        torch.randn(length, batch, size, generator=generator) for length, size in ((steps + 1, 4), (steps, 2))
    )
    flags = torch.rand(3, steps, batch, generator=generator) < 0.1
    window = Window(Posterior(mean, torch.full_like(mean, -1.0)), action, action[..., 0], flags[0], flags[1], ~flags[2])
    posterior = Posterior(*(part.to(device) for part in window.observation))
    return Window(posterior, *(part.to(device) for part in window[1:]))


def close(one, other, tolerance=1e-4):
    assert torch.allclose(one.cpu(), other.cpu(), rtol=tolerance, atol=tolerance), (one.cpu() - other.cpu()).abs().max()


@pytest.mark.parametrize("network", ["paper", "lean"])
def test_v_sees_and_draws_alike(network):
    torch.manual_seed(0)
    vae = VAE(network, width=0.5).eval()
    frames = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8)
    posterior = vae.encode(frames)
    drawn = vae.decode(posterior.mean).int()
    other = vae.to("cuda").encode(frames)
    close(other.mean, posterior.mean)
    close(other.log_std, posterior.log_std)
    assert (vae.decode(posterior.mean).cpu().int() - drawn).abs().max() <= 1


def test_m_learns_alike():
    """Without V's noise the loss is the same function of the weights on both."""
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        memory = Memory(4, 2, hidden_dim=16, latent_noise=0.0, reward_smoothing=1, restart_input=True).to(device)
        losses = memory.loss(make_window(device))
        losses["loss"].backward()
        gradients = [parameter.grad for parameter in memory.parameters() if parameter.grad is not None]
        found.append([*losses.values(), *gradients])
    for one, other in zip(*found, strict=True):
        close(other, one)


@pytest.mark.parametrize("compiles", [False, True])
def test_a_dream_step_is_the_same(compiles):
    torch.manual_seed(0)
    network = Memory(4, 2, hidden_dim=16).network
    given = (
        torch.randn(64, 4),
        torch.randn(64, 2),
        torch.randn(64, 16),
        torch.randn(64, 16),
        torch.rand(64, 4),
        torch.randn(64, 4),
    )
    found = []
    for device in ("cpu", "cuda"):
        z, action, h, c, uniform, noise = (part.to(device) for part in given)
        fused = FusedMDNRNN(network.to(device), compiles and device == "cuda")
        z, state, reward, ends = fused.advance(z, action, MemoryState(h, c), uniform, noise, 0.8)
        found.append([z, *state, reward, ends])
    for one, other in zip(*found, strict=True):
        close(other, one)


def test_ppo_learns_in_recorded_dreams_by_recorded_gradients():
    """Its rollouts are one CUDA graph, and its gradients those that autograd finds."""
    contexts = contexts_from_plain(contexts_as_plain(make_window()._replace(**NO_ENDS)), "cuda")
    network = Memory(4, 2, hidden_dim=16).to("cuda").network
    world = DreamWorld(network, contexts, BOX, batch=32, horizon=5, compiles=True)
    learner = PPO(Policy(world.state_shape, BOX, [8], [8]).to("cuda"), world, steps=5).to("cuda")
    batch = learner.next_batch()
    assert world.recordings and batch.state.shape == (40, 20)
    learner.compile_loss()
    for _ in range(2):  # the second time with other weights
        learner.loss(batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(learner.policy.parameters(), learner.max_gradient_norm)
        wanted = [parameter.grad for parameter in learner.policy.parameters()]
        learner.policy.zero_grad()
        learner.losses_of(batch)
        for one, other, parameter in zip(wanted, learner.gradients, learner.policy.parameters(), strict=True):
            close(other, one)
            parameter.data.add_(0.1)


@pytest.mark.parametrize(("part", "mixed"), [("v", False), ("v", True), ("m", False)])
def test_recorded_gradients_are_autograds(part, mixed, monkeypatch):
    """Also after the weights have changed, of a batch of another size, and as V trains, in bf16."""
    monkeypatch.setattr(vae_module, "sample", lambda posterior, _=None: posterior.mean)
    torch.manual_seed(0)
    module = (VAE("lean", width=0.5) if part == "v" else Memory(4, 2, hidden_dim=16, latent_noise=0.0)).to("cuda")
    module.compile_loss()
    frames = torch.randint(0, 256, (3, 8, 64, 64, 3), dtype=torch.uint8, device="cuda")
    given = (
        [frames[0], frames[1], frames[2, :5]] if part == "v" else [make_window("cuda", steps) for steps in (12, 12, 7)]
    )
    for batch in given:
        with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
            losses = module.losses_of(batch)
        module.backward(losses["loss"])
        found = [parameter.grad for parameter in module.trained()]
        module.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
            wanted = module.loss(batch)
        wanted["loss"].backward()
        for name in list(wanted):  # a graph of autograd's that lives on would be a part of the next recording
            close(losses[name], wanted.pop(name).detach(), 1e-2 if mixed else 1e-4)
        for gradient, parameter in zip(found, module.trained(), strict=True):
            close(gradient, parameter.grad, 2e-2 if mixed else 1e-3)
            assert gradient.stride() == parameter.stride()
            parameter.data.add_(0.01 * torch.randn_like(parameter))
        module.zero_grad()
