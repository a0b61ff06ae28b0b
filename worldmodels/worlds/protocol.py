"""What a learner may know of a world."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from ..types import Step


class World(Protocol):
    """A batch of episodes that can be reset and stepped; real, seen through V and M, or dreamt.

    An episode that ends begins anew by itself within the same step, see `Step`.
    """

    batch: int  # B, episodes in parallel
    state_shape: tuple[int, ...]  # of one state
    action_space: dict[str, Any]  # as envs.spaces.describe gives it
    frames_per_step: int  # simulator frames that a step takes: env_step counts these

    def reset(self) -> Tensor:
        """Begin all episodes: the first states [B, …]."""
        ...

    def step(self, action: Tensor) -> Step:
        """f32 [B, A] or i64 [B], in the environment's own units."""
        ...
