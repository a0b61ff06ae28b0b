"""The real environment seen through V and M: state = cat(z, h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..envs.spaces import as_features
from ..errors import UserError
from ..memory.mdnrnn import MDNRNN
from ..rollouts.behaviours import Exploration
from ..types import MemoryState, Posterior

RECENT = 4  # z that a C without M may see


class LatentTracker:
    """Encodes each frame with V and carries M's state along (arXiv 1803.10122, section 2.4).

    encode: V's, u8 [B, H, W, C] to Posterior [B, Z]; z is the posterior's mean. sees: see `state_dim`.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Posterior],
        memory: MDNRNN,
        action_space: dict[str, Any],
        batch: int,
        sees: str = "z_h",
    ):
        self.encode, self.memory, self.action_space = encode, memory, action_space
        self.sees = sees
        self.state_shape = (state_dim(memory, sees),)
        self.device = memory.heads.weight.device
        self.z = torch.zeros(batch, memory.latent_dim, device=self.device)
        self.recent = torch.zeros(batch, RECENT, memory.latent_dim, device=self.device)
        self.memory_state = memory.initial_state(batch)
        self.first = torch.ones(batch, dtype=torch.bool, device=self.device)

    def begin(self, observation: np.ndarray, mask: np.ndarray) -> Tensor:
        rows = torch.from_numpy(np.flatnonzero(mask)).to(self.device)
        # out of place: the states handed out before must keep their values
        z = self._encode(observation[mask])
        self.z = self.z.index_copy(0, rows, z)
        self.recent = self.recent.index_copy(0, rows, z.unsqueeze(1).expand(-1, RECENT, -1))
        h, c = (part.index_fill(0, rows, 0.0) for part in self.memory_state)
        self.memory_state = MemoryState(h, c)
        self.first = self.first.index_fill(0, rows, True)
        return self._state()

    @torch.no_grad()
    def advance(self, action: Tensor, observation: np.ndarray) -> Tensor:
        if self.sees.startswith("z_h"):
            features = as_features(action.to(self.device), self.action_space)
            self.memory_state = self.memory.step(self.z, features, self.first, self.memory_state)
            self.first = torch.zeros_like(self.first)
        self.z = self._encode(observation)
        self.recent = torch.cat([self.recent[:, 1:], self.z.unsqueeze(1)], 1)
        return self._state()

    def _encode(self, observation: np.ndarray) -> Tensor:
        return self.encode(torch.from_numpy(np.array(observation))).mean

    def _state(self) -> Tensor:
        if self.sees == "z4":
            return self.recent.flatten(1)
        return join_state(self.z, self.memory_state, self.sees)


def join_state(z: Tensor, memory_state: MemoryState, sees: str) -> Tensor:
    """What C sees of one moment, see `state_dim`."""
    parts = {"z": [z], "z_h": [z, memory_state.h], "z_h_c": [z, *memory_state]}
    return torch.cat(parts[sees], -1)


def state_dim(memory: MDNRNN, sees: str) -> int:
    """The length of what C sees: "z_h", the paper's z and h; "z_h_c", M's cell as well, as in its TakeCover; "z", no
    memory; "z4", the last four z, an episode's first standing for those before it. Raises UserError for another one.
    """
    lengths = {"z": 1, "z4": RECENT, "z_h": 1, "z_h_c": 1}
    if sees not in lengths:
        raise UserError(f"unknown controller.sees {sees!r}; choose {', '.join(lengths)}")
    return lengths[sees] * memory.latent_dim + memory.hidden_dim * {"z_h": 1, "z_h_c": 2}.get(sees, 0)


class Driver:
    """A policy behind a tracker: how a trained C plays real environments, for `rollouts.collect.play`.

    act: states [B, …] to actions; explore: what is played in their place, where C collects.
    """

    def __init__(self, tracker: Any, act: Callable[[Tensor], Tensor], explore: Exploration | None = None):
        self.tracker, self.act, self.explore = tracker, act, explore
        self.action: Tensor | None = None
        self.begun: dict[int, int] = {}

    def begin(self, seeds: dict[int, int]) -> None:
        self.begun = seeds
        if self.explore is not None:
            self.explore.begin(seeds)

    @torch.no_grad()
    def __call__(self, observation: np.ndarray) -> np.ndarray:
        state = None
        if self.action is not None:
            state = self.tracker.advance(self.action, observation)
        if self.begun:
            fresh = np.zeros(len(observation), np.bool_)
            fresh[list(self.begun)] = True
            state = self.tracker.begin(observation, fresh)
            self.begun = {}
        self.action = self.act(state)  # pyright: ignore[reportArgumentType]
        if self.explore is not None:
            chosen = self.explore(self.action.cpu().numpy())
            self.action = torch.from_numpy(chosen).to(self.action.device)
        return self.action.cpu().numpy()
