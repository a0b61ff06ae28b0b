"""Small untrained models whose dreams differ by action and seed."""

import torch

from worldmodels.envs.make import EnvSettings, make_env
from worldmodels.envs.spaces import action_dim
from worldmodels.memory.mdnrnn import MDNRNN
from worldmodels.play.session import Session
from worldmodels.types import Posterior, Window
from worldmodels.vision.vae import VAE

BOX = {"type": "box", "low": [-1.0, 0.0, 0.0], "high": [1.0, 1.0, 1.0]}


def make_session(real=False, act=None, action_space=BOX):
    """V has four latents, M eight units; the real environment is Blob."""
    torch.manual_seed(0)
    vision, memory = VAE(latent_dim=4, width=0.25).eval(), MDNRNN(4, action_dim(action_space), hidden_dim=8)
    with torch.no_grad():
        memory.lstm.weight_ih_l0.mul_(3)
        memory.heads.bias[-1] = -20  # it never believes in an end
    contexts = Window(
        Posterior(torch.randn(6, 5, 4), torch.full((6, 5, 4), -1.0)),
        torch.zeros(5, 5, action_dim(action_space)),
        torch.arange(5.0).expand(5, 5),
        torch.zeros(5, 5, dtype=torch.bool),
        torch.zeros(5, 5, dtype=torch.bool),
        torch.ones(5, 5, dtype=torch.bool),
    )
    settings = EnvSettings("environments:Blob-v0", {})
    return Session(
        vision,
        memory.requires_grad_(False),
        contexts,
        action_space,
        act,
        make_real=(lambda: make_env(settings)) if real else None,
    )
