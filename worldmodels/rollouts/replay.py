"""Rollouts as flat tensors on a device, sampled by index arithmetic.

All frames of all episodes lie one behind another: an episode of T steps takes T+1 rows, and the action, reward and end
of step t stand in the row of observation t. The last row of an episode has no action: zeros, never valid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..envs.spaces import as_features
from ..types import Posterior, Window
from .store import Source


class Replay:
    """Draws frames and time-major windows.

    observation: u8 [F, H, W, C], or a Posterior [F, Z]; action f32 [F, A]; reward f32 [F]; terminated bool [F];
    lengths: steps of each episode, F = Σ (T + 1).
    """

    def __init__(
        self,
        observation: Tensor | Posterior,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        lengths: Sequence[int],
    ):
        if sum(lengths) + len(lengths) != len(reward):
            raise ValueError(f"{len(lengths)} episodes of {sum(lengths)} steps do not fill {len(reward)} rows")
        self.observation, self.action, self.reward, self.terminated = observation, action, reward, terminated
        self.device = reward.device
        self.lengths = torch.tensor(lengths, device=self.device)
        self.first_row = torch.cumsum(self.lengths + 1, 0) - (self.lengths + 1)

    def __len__(self) -> int:
        return len(self.reward)

    def _at(self, rows: Tensor) -> Tensor | Posterior:
        if isinstance(self.observation, Posterior):
            return Posterior(self.observation.mean[rows], self.observation.log_std[rows])
        return self.observation[rows]

    def frames(self, count: int, generator: torch.Generator) -> Tensor | Posterior:
        """`count` observations, uniformly over all rows, with replacement."""
        return self._at(torch.randint(len(self), (count,), generator=generator, device=self.device))

    def windows(self, batch: int, length: int, generator: torch.Generator) -> Window:
        """`batch` windows of `length` steps, uniformly over all starts that fit into an episode.

        An episode shorter than the window has one start, its first row, and is padded with invalid steps.
        """
        starts = (self.lengths - length).clamp(min=0) + 1  # starts of each episode
        last = torch.cumsum(starts, 0)
        pick = torch.randint(int(last[-1]), (batch,), generator=generator, device=self.device)
        episode = torch.searchsorted(last, pick, right=True)
        return self.window(episode, pick - (last - starts)[episode], length)

    def window(self, episode: Tensor, start: Tensor, length: int) -> Window:
        """The windows that begin at step `start` [B] of `episode` [B]."""
        step = start + torch.arange(length + 1, device=self.device)[:, None]  # [L+1, B]
        steps = self.lengths[episode]
        rows = self.first_row[episode] + torch.minimum(step, steps)
        before = rows[:-1]
        return Window(
            self._at(rows),
            self.action[before],
            self.reward[before],
            self.terminated[before],
            step[:-1] == 0,
            step[:-1] < steps,
        )


def replay_of(
    sources: Sequence[Source], device: torch.device | str = "cpu", latents: Sequence[np.ndarray] | None = None
) -> Replay:
    """The sources' episodes as a Replay: of their frames, or of `latents` (f32 [T+1, 2, Z] for each)."""
    actions, rewards, terminations, observations = [], [], [], []
    for number, (store, entry) in enumerate(sources):
        episode = store.read(entry)
        action = torch.from_numpy(np.array(episode.action))
        actions.append(_padded(as_features(action, store.environment["action"])))
        rewards.append(_padded(torch.from_numpy(np.array(episode.reward))))
        terminated = torch.zeros(entry.length + 1, dtype=torch.bool)
        terminated[entry.length - 1] = entry.terminated
        terminations.append(terminated)
        observation = episode.observation if latents is None else latents[number]
        observations.append(torch.from_numpy(np.array(observation)))
    flat = torch.cat(observations).to(device)
    return Replay(
        flat if latents is None else Posterior(flat[:, 0].contiguous(), flat[:, 1].contiguous()),
        torch.cat(actions).to(device),
        torch.cat(rewards).to(device),
        torch.cat(terminations).to(device),
        [entry.length for _, entry in sources],
    )


def _padded(steps: Tensor) -> Tensor:
    """[T, …] to [T+1, …], the last row zero."""
    return torch.cat([steps, steps.new_zeros(1, *steps.shape[1:])])
