"""Any trained controller, ready to drive real environments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces

from .. import checkpoints
from ..controller.networks import Controller
from ..errors import UserError
from ..memory.training import Memory
from ..policy_gradient.policies import Policy
from ..q_learning.network import QNetwork
from ..rollouts.behaviours import Exploration
from ..rollouts.collect import Behaviour
from ..tracking import pick_device
from ..vision.vae import VAE
from ..worlds.gym_world import Observed
from ..worlds.latent_world import Driver, LatentTracker

ACTORS: dict[str, Any] = {actor.kind: actor for actor in (Policy, Controller, QNetwork)}  # whatever can drive


class Models:
    """V and M that belong together. Raises UserError where M was trained on another V's latents.

    random_memory: seed of an M of the same size that has learned nothing, in place of the trained one.
    """

    def __init__(self, vision: str | Path, memory: str | Path, device: torch.device, random_memory: int | None = None):
        self.memory, self.memory_checkpoint = Memory.load(memory)
        self.vision, self.vision_checkpoint = VAE.load(vision)
        wanted = self.memory_checkpoint.facts["vision_sha256"]
        checkpoints.require_same("V", wanted, self.vision_checkpoint, f"M {memory}")
        if random_memory is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(random_memory)
                self.memory = Memory(**self.memory.hparams).eval()
        for model in (self.memory, self.vision):
            model.to(device)
        self.environment: dict[str, Any] = self.memory_checkpoint.facts["environment"]

    def tracker(self, batch: int, sees: str = "z_h") -> LatentTracker:
        return LatentTracker(self.vision.encode, self.memory.network, self.environment["action"], batch, sees)


def load_driver(
    checkpoint: str | Path,
    num_envs: int,
    device: str,
    noise: float | Sequence[float] = 0.0,
    noise_correlation: float = 0.0,
    vision: str | Path | None = None,
    memory: str | Path | None = None,
) -> tuple[Behaviour, dict[str, Any], dict[str, Path]]:
    """The controller of `checkpoint` as a behaviour for `num_envs` environments, and the environment it was made for.

    At last the checkpoints that it consists of, for a run's lineage. noise, noise_correlation: see `Exploration`.

    V and M are the ones it was trained with, wherever its checkpoint says; `vision` and `memory` name other places.
    """
    where = pick_device(device)
    read = checkpoints.read(checkpoint, *ACTORS)
    actor, _ = ACTORS[read.kind].load(checkpoint)
    actor.to(where)
    facts = read.facts
    environment = facts["environment"]
    parts = {"controller": read.path}
    if facts["memory"] is None:
        shape = environment["observation_shape"]
        tracker: Any = Observed(spaces.Box(0, 1, shape), where)
    else:
        models = Models(vision or facts["vision"], memory or facts["memory"], where, facts["random_memory"])
        user = f"C {checkpoint}"
        checkpoints.require_same("V", facts["vision_sha256"], models.vision_checkpoint, user)
        checkpoints.require_same("M", facts["memory_sha256"], models.memory_checkpoint, user)
        tracker = models.tracker(num_envs, sees=facts["sees"])
        parts |= {"vision": models.vision_checkpoint.path, "memory": models.memory_checkpoint.path}
    if tuple(read.arguments["state_shape"]) != tuple(tracker.state_shape):
        raise UserError(f"{checkpoint} expects states {read.arguments['state_shape']}, not {tracker.state_shape}")
    explore = Exploration(environment["action"], noise, noise_correlation)
    return Driver(tracker, actor.act, explore), environment, parts
