"""The dream as a standard `gymnasium.vector.VectorEnv`, for anyone's agents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from ..envs.spaces import restore
from ..errors import UserError
from ..memory.training import Memory
from .dream_world import DreamWorld, contexts_from_plain
from .rival_dreams import DoubtedDream, EnsembleDream


def dream_from_checkpoint(
    memory: str | Path,
    batch: int,
    horizon: int = 100,
    temperature: float = 1.0,
    sees: str = "z_h",
    seed: int = 0,
    device: torch.device | str = "cpu",
    compiles: bool = False,
    rivals: Sequence[str | Path] = (),
    doubt: float = 0.0,
    ensemble: bool = False,
) -> DreamWorld:
    """The dream that M's checkpoint holds: its weights, and the real latents to start from.

    rivals: checkpoints of other M's, which dream their shares where `ensemble`, see `EnsembleDream`, and else cost
    `doubt` where they disagree, see `DoubtedDream`.
    """
    module, checkpoint = Memory.load(memory)
    network = module.network.to(device)
    contexts = contexts_from_plain(checkpoint.facts["contexts"], device)
    if contexts.reward.shape[1] == 0:
        raise UserError(f"{checkpoint.path} holds no start for a dream; its episodes were shorter than memory.context")
    action_space = checkpoint.facts["environment"]["action"]
    options: dict[str, Any] = {"seed": seed, "compiles": compiles}
    if (doubt or ensemble) and not rivals:
        raise UserError("a dream that is doubted or shared needs other M's; name their checkpoints as rivals")
    if not rivals:
        return DreamWorld(network, contexts, action_space, batch, horizon, temperature, sees, **options)
    others = []
    for path in rivals:
        other, read = Memory.load(path)
        if read.sha256 == checkpoint.sha256:
            raise UserError(f"{path} is M itself, which never disagrees; name an M of another seed")
        if read.facts["vision_sha256"] != checkpoint.facts["vision_sha256"]:
            raise UserError(f"{path} was trained on another V's latents than {checkpoint.path}; train it on the same")
        others.append(other.network.to(device))
    options["rivals"] = others
    if ensemble:
        return EnsembleDream(network, contexts, action_space, batch, horizon, temperature, sees, **options)
    return DoubtedDream(network, contexts, action_space, batch, horizon, temperature, sees, doubt=doubt, **options)


class DreamVectorEnv(gymnasium.vector.VectorEnv):
    """`gymnasium.make_vec("worldmodels/Dream-v0", num_envs=8, memory="runs/…/best.ckpt", horizon=100)`.

    Observations are states f32 [B, Z + H], actions those of the real environment. An ended dream begins anew within
    the same step; its last state is `infos["final_obs"]`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        memory: str | Path,
        horizon: int = 100,
        temperature: float = 1.0,
        sees: str = "z_h",
        device: str = "cpu",
    ):
        self.world = dream_from_checkpoint(memory, num_envs, horizon, temperature, sees, device=device)
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP, "render_modes": []}
        self.render_mode = None
        self.single_observation_space = spaces.Box(-np.inf, np.inf, self.world.state_shape, np.float32)
        self.single_action_space = restore(self.world.action_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed if seed is None or isinstance(seed, int) else seed[0], options=options)
        if seed is not None:
            first = seed if isinstance(seed, int) else seed[0]
            self.world.generator.manual_seed(int(first or 0))
        return self.world.reset().cpu().numpy(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        step = self.world.step(torch.as_tensor(actions, device=self.world.device))
        terminated, truncated = step.terminated.cpu().numpy(), step.truncated.cpu().numpy()
        ended = terminated | truncated
        infos: dict[str, Any] = {}
        if ended.any():
            final = np.full(self.num_envs, None, dtype=object)
            for slot, last in zip(np.flatnonzero(ended), step.next_state[torch.from_numpy(ended)].cpu().numpy()):
                final[slot] = last
            infos = {"final_obs": final, "_final_obs": ended}
        reward = step.reward.cpu().numpy().astype(np.float64)
        return step.state.cpu().numpy(), reward, terminated, truncated, infos
