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
    lengths: steps of each episode, F = Σ (T + 1). Raises ValueError where they do not fill the rows.
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
        self.device = reward.device
        self.latent = isinstance(observation, Posterior)
        self.lengths = torch.tensor(lengths, device=self.device)
        self.first_row = torch.cumsum(self.lengths + 1, 0) - (self.lengths + 1)
        first, valid = torch.zeros_like(terminated), torch.ones_like(terminated)
        first[self.first_row] = True
        valid[self.first_row + self.lengths] = False
        self.ends = torch.stack([terminated, first, valid], 1)
        self.steps = torch.cat([action, reward[:, None]], 1)
        self.sizes = [action.shape[1], 1]
        if isinstance(observation, Posterior):  # one gather then brings latents, actions and rewards
            self.rows = torch.cat([*observation, self.steps], 1)
            self.steps = self.rows[:, -sum(self.sizes) :]
            self.sizes = [observation.mean.shape[1]] * 2 + self.sizes
        else:
            self.rows = observation
        # by the arguments of `_starts`
        self.starts: dict[tuple[int, bool, bool, int | None], tuple[Tensor, Tensor | None]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def observation(self) -> Tensor | Posterior:
        return self._seen(self.rows)

    @property
    def action(self) -> Tensor:
        return self.steps[:, :-1]

    @property
    def reward(self) -> Tensor:
        return self.steps[:, -1]

    @property
    def terminated(self) -> Tensor:
        return self.ends[:, 0]

    def at(self, rows: Tensor) -> Tensor | Posterior:
        """The observations of the given rows [N]."""
        return self._seen(self.rows.index_select(0, rows))

    def frames(self, count: int, generator: torch.Generator) -> Tensor | Posterior:
        """`count` observations, uniformly over all rows, with replacement."""
        return self.at(torch.randint(len(self), (count,), generator=generator, device=self.device))

    def windows(
        self,
        batch: int,
        length: int,
        generator: torch.Generator,
        overhang: bool = False,
        through: bool = False,
        inside: int | None = None,
    ) -> Window:
        """`batch` windows of `length` steps, uniformly over all starts that fit into an episode.

        An episode shorter than the window has one start, its first row, and is padded with invalid steps. A longer
        one's last step lies in the last window alone. overhang: windows may begin before their episode and end behind
        it, where what is left of them begins with its first row and is padded: each step is drawn as often as any.
        through, in place of overhang: windows go on into the next episode, behind the one row that is no step, so that
        long ones hold nothing else that is invalid; who learns from them must heed `first`. Where all episodes together
        are shorter than the window it changes nothing. inside, in place of both: windows whose first so many steps lie
        within their episode, whatever becomes of it afterwards; what hangs over behind it is padded. Raises ValueError
        where no episode has so many.
        """
        key = length, overhang, through, inside
        if key not in self.starts:
            self.starts[key] = self._starts(*key)
        starts, ends = self.starts[key]
        pick = torch.randint(len(starts), (batch,), generator=generator, device=self.device)
        rows = starts[pick] + torch.arange(length + 1, device=self.device)[:, None]
        if ends is not None:
            rows = torch.minimum(rows, ends[pick])
        everywhere = rows.view(-1)
        acting = everywhere[: length * batch]
        found = self.rows.index_select(0, everywhere).unflatten(0, (length + 1, batch))
        if self.latent:
            *posterior, action, reward = found.split(self.sizes, 2)
            observation, action, reward = Posterior(*posterior), action[:-1], reward[:-1]
        else:
            observation = found
            action, reward = self.steps.index_select(0, acting).unflatten(0, (length, batch)).split(self.sizes, 2)
        terminated, first, valid = self.ends.index_select(0, acting).unflatten(0, (length, batch)).unbind(2)
        if ends is not None:  # where a window hangs over, the row that pads may be one within the episode
            valid = valid & (rows[:-1] < ends[pick])
            terminated = terminated & valid
        return Window(observation, action, reward.squeeze(2), terminated, first, valid)

    def _seen(self, rows: Tensor) -> Tensor | Posterior:
        return Posterior(*rows.split(self.sizes, 1)[:2]) if self.latent else rows

    def close(self) -> None:
        """Nothing to let go of; a streaming replay has a thread."""

    def _starts(self, length: int, overhang: bool, through: bool, inside: int | None) -> tuple[Tensor, Tensor | None]:
        """All rows at which a window may start, and behind which rows it is padded, where some are."""
        outside = 0
        if through and inside is None and len(self) > length:
            return torch.arange(len(self) - length, device=self.device), None
        if inside is not None:
            count = (self.lengths - inside + 1).clamp(min=0)
            if not bool(count.any()):
                raise ValueError(f"no episode has {inside} steps; the longest has {int(self.lengths.max())}")
        elif overhang:
            outside = length - 1
            count = self.lengths + outside
        else:
            count = (self.lengths - length).clamp(min=0) + 1
        episode = torch.repeat_interleave(torch.arange(len(count), device=self.device), count)
        within = torch.arange(len(episode), device=self.device) - (torch.cumsum(count, 0) - count)[episode] - outside
        starts = self.first_row[episode] + within.clamp(min=0)
        if not overhang and inside is None and not bool((self.lengths < length).any()):
            return starts, None
        return starts, self.first_row[episode] + torch.minimum(self.lengths[episode], within + length)


def replay_of(
    sources: Sequence[Source], device: torch.device | str = "cpu", latents: Sequence[np.ndarray] | None = None
) -> Replay:
    """The sources' episodes as a Replay: of their frames, or of `latents` (f32 [T+1, 2, Z] for each)."""
    actions, rewards, terminations = [], [], []
    flat, filled = torch.empty(0), 0
    for number, (store, entry) in enumerate(sources):
        episode = store.read(entry)
        action = torch.from_numpy(np.array(episode.action))
        actions.append(_padded(as_features(action, store.environment["action"])))
        rewards.append(_padded(torch.from_numpy(np.array(episode.reward))))
        terminated = torch.zeros(entry.length + 1, dtype=torch.bool)
        terminated[entry.length - 1] = entry.terminated
        terminations.append(terminated)
        observation = torch.from_numpy(np.array(episode.observation if latents is None else latents[number]))
        if not number:  # filled in place: a list and its concatenation would take the memory twice
            rows = sum(entry.length + 1 for _, entry in sources)
            flat = torch.empty(rows, *observation.shape[1:], dtype=observation.dtype)
        flat[filled : filled + len(observation)] = observation
        filled += len(observation)
    flat = flat.to(device)
    return Replay(
        flat if latents is None else Posterior(flat[:, 0], flat[:, 1]),
        torch.cat(actions).to(device),
        torch.cat(rewards).to(device),
        torch.cat(terminations).to(device),
        [entry.length for _, entry in sources],
    )


def _padded(steps: Tensor) -> Tensor:
    """[T, …] to [T+1, …], the last row zero."""
    return torch.cat([steps, steps.new_zeros(1, *steps.shape[1:])])
