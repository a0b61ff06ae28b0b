"""The real environment as a world, its observations turned into states by a tracker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from torch import Tensor

from ..envs.make import reset_some
from ..envs.spaces import describe
from ..types import Step


class Tracker(Protocol):
    """Turns the observations of B parallel episodes into states."""

    state_shape: tuple[int, ...]

    def begin(self, observation: np.ndarray, mask: np.ndarray) -> Tensor:
        """Episodes in bool `mask` [B] begin with their rows of `observation` [B, …]; the states of all [B, …]."""
        ...

    def advance(self, action: Tensor, observation: np.ndarray) -> Tensor:
        """After `action` [B, …] each episode shows `observation` [B, …]; the states of all [B, …]."""
        ...


class Observed:
    """No model: the observation is the state. Frames stay u8 [B, H, W, C]; vectors become f32 [B, S]."""

    def __init__(self, space: gymnasium.Space, device: torch.device | str = "cpu"):
        self.state_shape = tuple(space.shape or ())
        self.device = device

    def begin(self, observation: np.ndarray, mask: np.ndarray) -> Tensor:
        return self._state(observation)

    def advance(self, action: Tensor, observation: np.ndarray) -> Tensor:
        return self._state(observation)

    def _state(self, observation: np.ndarray) -> Tensor:
        state = torch.from_numpy(np.array(observation)).to(self.device)
        return state if state.dtype == torch.uint8 else state.float()


class GymWorld:
    """Steps a vector of environments that never resets by itself and begins ended ones with the next seed.

    next_seed: called once for each episode. With a latent tracker this is the latent world, see `latent_world`.
    """

    def __init__(
        self,
        envs: gymnasium.vector.VectorEnv,
        tracker: Tracker,
        next_seed: Callable[[], int],
        frames_per_step: int = 1,
    ):
        self.envs, self.tracker, self.next_seed = envs, tracker, next_seed
        self.batch, self.frames_per_step = envs.num_envs, frames_per_step
        self.state_shape = tracker.state_shape
        self.action_space: dict[str, Any] = describe(envs.single_action_space)

    def reset(self) -> Tensor:
        return self._begin(np.ones(self.batch, np.bool_))

    def step(self, action: Tensor) -> Step:
        observation, reward, terminated, truncated, _ = self.envs.step(action.cpu().numpy())
        next_state = self.tracker.advance(action, observation)
        ended = terminated | truncated
        state = self._begin(ended) if ended.any() else next_state
        device = next_state.device
        return Step(
            state,
            next_state,
            torch.as_tensor(reward, dtype=torch.float32, device=device),
            torch.as_tensor(terminated.copy(), device=device),
            torch.as_tensor(truncated.copy(), device=device),
        )

    def _begin(self, mask: np.ndarray) -> Tensor:
        seeds = {int(slot): self.next_seed() for slot in np.flatnonzero(mask)}
        return self.tracker.begin(reset_some(self.envs, seeds), mask)
