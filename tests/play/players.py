"""Small untrained models whose dreams differ by action and seed."""

import torch
from saving import make_contexts, untrained

from worldmodels.envs.make import EnvSettings, make_env
from worldmodels.envs.spaces import action_dim
from worldmodels.memory.mdnrnn import MDNRNN
from worldmodels.play.session import Session
from worldmodels.vision.vae import VAE

BOX = {"type": "box", "low": [-1.0, 0.0, 0.0], "high": [1.0, 1.0, 1.0]}


def make_session(real=False, act=None, action_space=BOX, action_names=None):
    """V has four latents, M eight units; the real environment is Blob."""
    torch.manual_seed(0)
    vision, memory = VAE(latent_dim=4, width=0.25).eval(), MDNRNN(4, action_dim(action_space), hidden_dim=8)
    settings = EnvSettings("environments:Blob-v0", {})
    return Session(
        vision,
        untrained(memory).requires_grad_(False),
        make_contexts(action_space),
        action_space,
        act,
        make_real=(lambda: make_env(settings)) if real else None,
        action_names=action_names,
    )
