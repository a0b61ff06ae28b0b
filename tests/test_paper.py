"""The paper's counts of parameters (arXiv 1803.10122, tables 1 and 3), derived and counted."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from worldmodels.controller.networks import Controller
from worldmodels.memory.training import Memory
from worldmodels.vision.vae import VAE
from worldmodels.worlds.latent_world import state_dim

CARRACING = {"type": "box", "low": [-1.0, 0.0, 0.0], "high": [1.0, 1.0, 1.0]}
TAKECOVER = {"type": "box", "low": [-1.0], "high": [1.0]}  # left or right by one number's sign


@pytest.fixture(scope="module")
def settings():
    with initialize_config_dir(str(Path(__file__).parents[1] / "configs"), version_base="1.3"):
        return OmegaConf.to_container(compose("run_pipeline", ["preset=paper", "name=paper"]), resolve=True)


def trainable(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def convolution(inputs, outputs, kernel):
    return inputs * outputs * kernel**2 + outputs


def linear(inputs, outputs):
    return inputs * outputs + outputs


def lstm(inputs, hidden):
    """Four gates, one bias each: torch's second bias is redundant and not trained."""
    return 4 * (inputs * hidden + hidden * hidden + hidden)


@pytest.mark.parametrize("latent_dim, total", [(32, 4_348_547), (64, 4_446_915)])
def test_vision(settings, latent_dim, total):
    encoder = convolution(3, 32, 4) + convolution(32, 64, 4) + convolution(64, 128, 4) + convolution(128, 256, 4)
    decoder = convolution(1024, 128, 5) + convolution(128, 64, 5) + convolution(64, 32, 6) + convolution(32, 3, 6)
    derived = encoder + 2 * linear(1024, latent_dim) + linear(latent_dim, 1024) + decoder
    counted = trainable(VAE(**{**settings["vision"]["model"], "latent_dim": latent_dim}))
    assert derived == counted == total


def test_memory_of_carracing(settings):
    network = Memory(32, 3, **settings["memory"]["model"]).network
    derived = lstm(32 + 3, 256) + linear(256, 3 * 5 * 32)
    assert derived == 422_368
    assert trainable(network) - derived == 2 * linear(256, 1) == 514, "our reward and termination on top"


def test_memory_of_takecover(settings):
    model = {**settings["memory"]["model"], "hidden_dim": 512, "restart_input": True}
    network = Memory(64, 1, **model).network
    derived = lstm(64 + 1 + 1, 512) + linear(512, 3 * 5 * 64 + 1)  # a head of 961: the end is among it
    assert derived == 1_678_785
    assert trainable(network) - derived == linear(512, 1) == 513, "our reward on top"


def test_controller(settings):
    assert settings["policy"]["hidden"] == [] and settings["algo"]["name"] == "cmaes"
    carracing = Memory(32, 3, **settings["memory"]["model"]).network
    controller = Controller([state_dim(carracing, sees="z_h")], CARRACING, bias=settings["algo"]["bias"])
    assert controller.count == linear(32 + 256, 3) == 867
    takecover = Memory(64, 1, **{**settings["memory"]["model"], "hidden_dim": 512}).network
    controller = Controller([state_dim(takecover, sees="z_h_c")], TAKECOVER, bias=False)
    assert controller.count == 64 + 512 + 512 == 1_088


def test_the_preset_is_the_paper_s(settings):
    assert settings["vision"]["model"]["kl_tolerance"] == 0.5
    assert settings["vision"]["model"]["learning_rate"] == 1e-4 and settings["vision"]["batch_size"] == 100
    assert settings["memory"]["window"] == 999 and settings["memory"]["batch_size"] == 100
    assert settings["memory"]["clip_value"] == 1.0 and settings["memory"]["model"]["learning_rate"] == 1e-3
    assert (settings["algo"]["population"], settings["algo"]["episodes"], settings["algo"]["sigma"]) == (64, 16, 0.1)
    assert settings["algo"]["generations"] == 1800 and settings["world"] == "latent"
    assert settings["env"]["action_repeat"] == 1 and settings["env"]["crop_rows"] == 84
