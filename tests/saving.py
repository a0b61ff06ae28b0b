"""Untrained models, as checkpoints too."""

import torch

from worldmodels import checkpoints
from worldmodels.controller.networks import Controller
from worldmodels.envs.spaces import action_dim
from worldmodels.memory.training import Memory
from worldmodels.stages.settings import describe_environment
from worldmodels.types import Posterior, Window
from worldmodels.vision.vae import VAE
from worldmodels.worlds.dream_world import contexts_as_plain


def saved(module, path, **facts):
    """The checkpoint at `path` of a V or M that was made from `facts`."""
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    checkpoints.stamp(content, module.kind, dict(module.hparams), facts)
    torch.save(content, path)
    return path


def untrained(memory):
    """The same network, made to heed its inputs and to believe in no end."""
    with torch.no_grad():
        memory.lstm.weight_ih_l0.mul_(3)
        memory.heads.bias[-1] = -20
    return memory


def make_contexts(action_space):
    """Six steps each of five starts, of noise."""
    return Window(
        Posterior(torch.randn(6, 5, 4), torch.full((6, 5, 4), -1.0)),
        torch.zeros(5, 5, action_dim(action_space)),
        torch.arange(5.0).expand(5, 5),
        torch.zeros(5, 5, dtype=torch.bool),
        torch.zeros(5, 5, dtype=torch.bool),
        torch.ones(5, 5, dtype=torch.bool),
    )


def save_models(folder, env):
    """Checkpoints of an untrained C, V and M for the environment of a config section; returns C's."""
    torch.manual_seed(0)
    environment = describe_environment(env)
    space = environment["action"]
    vision = saved(VAE(latent_dim=4, width=0.25), folder / "v.ckpt", environment=environment)
    facts = {"environment": environment, "vision_sha256": checkpoints.sha256(vision)}
    memory = Memory(4, action_dim(space), hidden_dim=8, restart_input=True)
    untrained(memory.network)
    memory = saved(memory, folder / "m.ckpt", contexts=contexts_as_plain(make_contexts(space)), **facts)
    controller = Controller([4 + 8 + 8], space)
    controller.parameters_flat.normal_()
    facts |= {"memory_sha256": checkpoints.sha256(memory), "random_memory": None, "sees": "z_h_c"}
    controller.facts = {**facts, "vision": str(vision), "memory": str(memory)}
    controller.save(folder / "c.ckpt")
    return folder / "c.ckpt"
