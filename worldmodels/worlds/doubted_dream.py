"""A dream that pays less where several M's do not agree on what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..envs.spaces import as_features
from ..memory.fused import FusedMDNRNN
from ..memory.mdnrnn import MDNRNN
from ..types import MemoryState, Step, Window
from .dream_world import Dream, DreamWorld


class DoubtedDream(DreamWorld):
    """Rewards are r − `doubt` · d, d the standard deviation over the M's of the next z that each expects, [B].

    It is a mean over the entries of z. M's that were trained from other weights agree where the data has been and
    differ elsewhere, so that C is kept where the dream can be believed (the penalty of MOPO, Yu et al. 2020, arXiv
    2005.13239, with the disagreement of Pathak et al. 2019, arXiv 1906.04161). The dream itself is `memory`'s alone.

    rivals: the other M's, of the same V. They follow the dream with h of their own.
    """

    def __init__(
        self,
        memory: MDNRNN,
        contexts: Window,
        *others: Any,
        rivals: Sequence[MDNRNN],
        doubt: float,
        **options: Any,
    ):
        super().__init__(memory, contexts, *others, **options)
        self.rivals, self.doubt = rivals, doubt
        self.members = [self.fused, *(FusedMDNRNN(rival) for rival in rivals)]
        self.records = False  # their states are no part of `Dream`
        self.states: list[MemoryState] = []
        self.starting_states: list[MemoryState] = []

    @torch.no_grad()
    def reset(self) -> Tensor:
        state = super().reset()
        self.states = self.starting_states
        return state

    def _begin(self, z: Tensor, action: Tensor, first: Tensor) -> Dream:
        self.starting_states = [rival(z[:-1], action, first)[1] for rival in self.rivals]
        return super()._begin(z, action, first)

    def _advance(self, dream: Dream, starts: Dream, action: Tensor) -> tuple[Dream, Step]:
        following, step = super()._advance(dream, starts, action)
        features = as_features(action, self.action_space)
        expected, states = [], []
        for member, state in zip(self.members, [MemoryState(dream.h, dream.c), *self.states], strict=True):
            state, heads = member.step(dream.z, features, state)
            expected.append(member.expected(heads))
            states.append(state)
        ended = (step.terminated | step.truncated).unsqueeze(1)
        self.states = [
            MemoryState(*(torch.where(ended, new, old) for new, old in zip(start, state, strict=True)))
            for start, state in zip(self.starting_states, states[1:], strict=True)
        ]
        disagreement = torch.stack(expected).std(0, correction=0).mean(-1)
        return following, step._replace(reward=step.reward - self.doubt * disagreement)
