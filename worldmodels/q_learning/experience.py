"""What was played lately, to be drawn from at random (Lin 1992; Mnih et al. 2015, Nature 518)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..types import Rollout


class Transitions(NamedTuple):
    """N steps, each with what followed."""

    state: Tensor  # [N, ...]
    action: Tensor  # i64 [N]
    reward: Tensor  # f32 [N]
    terminated: Tensor  # bool [N]
    next_state: Tensor  # [N, ...]
    weight: Tensor  # f32 [N]: 0 where next_state is not the step's own


class Experience:
    """A ring of the last `capacity` steps of B parallel episodes, on the device that they were played on.

    A state is kept once: what followed a step is the row behind it. Where the clock cut an episode short that row is
    the next episode's first state and the step has no weight; where it was terminated nothing is worth anything there.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.rows: list[Tensor] = []  # states, actions, rewards, terminated, truncated: [R, B, ...]
        self.head = 0  # the row that is written next; it holds the last step's next state already
        self.filled = 0  # rows with whole steps

    @property
    def steps(self) -> int:
        """Steps that can be drawn."""
        return self.filled * self.rows[0].shape[1] if self.rows else 0

    def add(self, rollout: Rollout) -> None:
        """Steps in the order they were played, right behind the last ones that were added."""
        parts = (rollout.state, rollout.action, rollout.reward, rollout.terminated, rollout.truncated)
        steps, batch = rollout.reward.shape
        if not self.rows:
            # one row more, for the newest step's next state
            rows = max(self.capacity // batch, steps) + 1
            self.rows = [part.new_zeros(rows, *part.shape[1:]) for part in parts]
        rows = len(self.rows[0])
        places = (self.head + torch.arange(steps, device=rollout.reward.device)) % rows
        for kept, part in zip(self.rows, parts, strict=True):
            kept[places] = part
        self.head = (self.head + steps) % rows
        self.rows[0][self.head] = rollout.next_state[-1]
        self.filled = min(self.filled + steps, rows - 1)

    def sample(self, count: int) -> Transitions:
        """`count` steps, each equally likely, with replacement."""
        states, actions, rewards, terminated, truncated = self.rows
        rows, batch = states.shape[:2]
        drawn = torch.randint(self.filled * batch, (count,), device=states.device)
        place = (self.head - self.filled + drawn // batch) % rows
        here, after = place * batch + drawn % batch, (place + 1) % rows * batch + drawn % batch
        frames = states.flatten(0, 1)
        return Transitions(
            frames[here],
            actions.flatten()[here],
            rewards.flatten()[here],
            terminated.flatten()[here],
            frames[after],
            (~truncated.flatten()[here]).float(),
        )
