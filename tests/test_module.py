"""What a GPU records of an update, run by the CPU."""

import pytest
import torch
from recordings import RunAtOnce

from worldmodels import recording
from worldmodels.recording import Recorded
from worldmodels.vision import vae as vae_module
from worldmodels.vision.vae import VAE


@pytest.mark.parametrize("mixed", [False, True])
def test_gradients_of_a_recorded_update_are_autograds(monkeypatch, mixed):
    """Laid out as the weights are, which of V's convolutions autograd's own need not be; and of the weights as they are
    now, also within one autocast, which keeps what it has once cast."""
    monkeypatch.setattr(recording, "Recording", RunAtOnce)
    monkeypatch.setattr(vae_module, "sample", lambda posterior, _=None: posterior.mean)
    torch.manual_seed(0)
    vae = VAE("paper", width=0.25)
    vae.encoder.requires_grad_(False)
    vae._record()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        for count in (4, 4, 3):
            frames = torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8)
            losses = vae.losses_of(frames)
            vae.backward(losses["loss"])
            found = [weight.grad for weight in vae.trained()]
            vae.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed, cache_enabled=False):
                wanted = vae.loss(frames)
            assert losses.keys() == wanted.keys() and not losses["loss"].requires_grad
            assert all(torch.equal(losses[name], value) for name, value in wanted.items())
            with torch.autocast("cpu", enabled=False):
                wanted["loss"].backward()
            for gradient, weight in zip(found, vae.trained(), strict=True):
                assert torch.allclose(gradient, weight.grad, rtol=1e-4, atol=1e-3 if mixed else 1e-5)
                assert gradient.stride() == weight.stride()
                with torch.no_grad():
                    weight.add_(0.01)
            vae.zero_grad()
    assert all(weight.grad is None for weight in vae.encoder.parameters())


def test_one_recording_for_each_set_of_shapes(monkeypatch):
    """Results come back built as `work` built them."""
    made = []

    class Counted(RunAtOnce):
        def __init__(self, work, begin):
            super().__init__(work, begin)
            made.append(len(begin[0]))

    monkeypatch.setattr(recording, "Recording", Counted)
    recorded = Recorded(lambda given: {"sum": given["a"] + given["b"][0], "both": [given["a"], -given["a"]]})
    for size in (3, 3, 5, 3):
        a, b = torch.arange(float(size)), torch.ones(size)
        found = recorded({"a": a, "b": (b,)})
        assert torch.equal(found["sum"], a + 1) and torch.equal(found["both"][1], -a)
    assert made == [3, 5]
