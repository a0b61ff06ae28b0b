"""The values that cross the rooms. Each field wears its shape; T time, B batch, L window length, Z latent size.

Alignment, everywhere: observation[t], action[t] → reward[t], terminated[t], truncated[t], observation[t+1].
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor


class Episode(NamedTuple):
    """One reset-to-end of a real environment. Only its last step may end it."""

    seed: int  # the environment's seed: the episode's identity, and what decides its split
    observation: np.ndarray  # u8 [T+1, H, W, C] or f32 [T+1, S]
    action: np.ndarray  # f32 [T, A] or i64 [T]
    reward: np.ndarray  # f32 [T]
    terminated: bool
    truncated: bool


class Posterior(NamedTuple):
    """V's diagonal Gaussian over z."""

    mean: Tensor  # f32 [..., Z]
    log_std: Tensor  # f32 [..., Z]

    def narrowed(self, share: float) -> Posterior:
        """The same Gaussian with `share` of its deviation; 1 leaves it as it is, 0 leaves the mean alone."""
        return Posterior(self.mean, self.log_std + (math.log(share) if share else -math.inf))


class Window(NamedTuple):
    """L steps of B episodes, time-major. Steps past an episode's end repeat its last frame and are not valid."""

    observation: Any  # u8 [L+1, B, H, W, C], or a Posterior [L+1, B, Z]
    action: Tensor  # f32 [L, B, A]; discrete actions are one-hot
    reward: Tensor  # f32 [L, B]
    terminated: Tensor  # bool [L, B]
    first: Tensor  # bool [L, B]: observation[t] is the first of its episode
    valid: Tensor  # bool [L, B]


class Mixture(NamedTuple):
    """K Gaussians for each latent dimension; the logits are not normalised."""

    logits: Tensor  # f32 [..., Z, K]
    mean: Tensor  # f32 [..., Z, K]
    log_std: Tensor  # f32 [..., Z, K]


class MemoryState(NamedTuple):
    """What the LSTM carries from step to step."""

    h: Tensor  # f32 [B, H]
    c: Tensor  # f32 [B, H]


class Prediction(NamedTuple):
    """M's forecast of what follows (z, action)."""

    next_z: Mixture  # [..., Z, K]
    reward: Tensor  # f32 [...]
    terminated_logit: Tensor  # f32 [...]


class Step(NamedTuple):
    """What a world answers to an action.

    Where an episode ended, `next_state` is its true last state and `state` already the first of the next episode;
    elsewhere both are the same.
    """

    state: Any  # [B, ...]: act from this one
    next_state: Any  # [B, ...]: bootstrap from this one
    reward: Tensor  # f32 [B]
    terminated: Tensor  # bool [B]
    truncated: Tensor  # bool [B]


class Rollout(NamedTuple):
    """T steps of B parallel episodes, one behind another: the fields of Step, with the states acted from."""

    state: Tensor  # [T, B, ...]
    action: Tensor  # f32 [T, B, A] or i64 [T, B]
    next_state: Tensor  # [T, B, ...]
    reward: Tensor  # f32 [T, B]
    terminated: Tensor  # bool [T, B]
    truncated: Tensor  # bool [T, B]


class Trajectory(NamedTuple):
    """T steps of B parallel episodes as the learner reads them."""

    state: Tensor  # [T, B, ...]
    action: Tensor  # f32 [T, B, A] or i64 [T, B]
    reward: Tensor  # f32 [T, B]
    terminated: Tensor  # bool [T, B]
    truncated: Tensor  # bool [T, B]
    next_value: Tensor  # f32 [T, B]: V of the true next state where the step ended its episode or the rollout, else 0
    valid: Tensor  # bool [T, B]: False once an episode is over, where each is played once
