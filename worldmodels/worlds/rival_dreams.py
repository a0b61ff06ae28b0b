"""Dreams that several M's of one V have a say in: one that doubts, and one that each of them dreams a share of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..memory.fused import FusedMDNRNN
from ..memory.mdnrnn import MDNRNN
from ..types import MemoryState, Window
from .dream_world import Dream, DreamWorld


class RivalDream(DreamWorld):
    """A dream whose C sees h of `memory`, while each of `rivals` follows its share of the batch with h of its own."""

    def __init__(
        self,
        memory: MDNRNN,
        contexts: Window,
        *others: Any,
        rivals: Sequence[MDNRNN],
        shares: Sequence[slice],
        compiles: bool = False,
        **options: Any,
    ):
        super().__init__(memory, contexts, *others, compiles=compiles, **options)
        self.rivals, self.shares = rivals, shares
        self.fused_rivals = [FusedMDNRNN(rival, compiles and not self.records) for rival in rivals]

    def _begin(self, z: Tensor, action: Tensor, first: Tensor) -> Dream:
        states = (
            rival(z[:-1, share], action[:, share], first[:, share])[1]
            for rival, share in zip(self.rivals, self.shares, strict=True)
        )
        return super()._begin(z, action, first)._replace(rival_states=tuple(states))

    def _begun_anew(self, ended: Tensor, starts: Dream, following: Dream) -> Dream:
        column = ended.unsqueeze(1)
        states = (
            MemoryState(*(torch.where(column[share], new, old) for new, old in zip(begun, state, strict=True)))
            for share, begun, state in zip(self.shares, starts.rival_states, following.rival_states, strict=True)
        )
        return super()._begun_anew(ended, starts, following)._replace(rival_states=tuple(states))


class DoubtedDream(RivalDream):
    """Rewards are r − `doubt` · d, d the standard deviation over the M's of the next z that each expects, [B].

    It is a mean over the entries of z. M's that were trained from other weights agree where the data has been and
    differ elsewhere, so that C is kept where the dream can be believed (the penalty of MOPO, Yu et al. 2020, arXiv
    2005.13239, with the disagreement of Pathak et al. 2019, arXiv 1906.04161). The dream itself is `memory`'s alone.
    """

    def __init__(self, *others: Any, rivals: Sequence[MDNRNN], doubt: float, **options: Any):
        super().__init__(*others, rivals=rivals, shares=[slice(None)] * len(rivals), **options)
        self.doubt = doubt

    def _dreamt(self, dream: Dream, action: Tensor, uniform: Tensor, noise: Tensor) -> tuple[Dream, Tensor, Tensor]:
        following, reward, ends = super()._dreamt(dream, action, uniform, noise)
        _, heads = self.fused.step(dream.z, action, MemoryState(dream.h, dream.c))
        expected, states = [self.fused.expected(heads)], []
        for rival, state in zip(self.fused_rivals, dream.rival_states, strict=True):
            state, heads = rival.step(dream.z, action, state)
            expected.append(rival.expected(heads))
            states.append(state)
        disagreement = torch.stack(expected).std(0, correction=0).mean(-1)
        return following._replace(rival_states=tuple(states)), reward - self.doubt * disagreement, ends


class EnsembleDream(RivalDream):
    """`memory` and its rivals each dream a share of the batch: dream b is number b modulo their count's.

    C meets several M's, so that what pays by a flaw of one of them pays in its share alone (the ensemble of ME-TRPO,
    Kurutach et al. 2018, arXiv 1802.10592, with one member for each dream). What C sees of a past is h of `memory`
    in all of them, as outside.
    """

    def __init__(self, *others: Any, rivals: Sequence[MDNRNN], **options: Any):
        count = len(rivals) + 1
        super().__init__(
            *others, rivals=rivals, shares=[slice(rank, None, count) for rank in range(1, count)], **options
        )
        if self.batch < count:
            raise UserError(
                f"{self.batch} dreams are too few for {count} M's to share; set controller.batch={count} or more"
            )

    def _dreamt(self, dream: Dream, action: Tensor, uniform: Tensor, noise: Tensor) -> tuple[Dream, Tensor, Tensor]:
        following, reward, ends = super()._dreamt(dream, action, uniform, noise)
        z, reward, ends, states = following.z.clone(), reward.clone(), ends.clone(), []
        for rival, share, state in zip(self.fused_rivals, self.shares, dream.rival_states, strict=True):
            own = dream.z[share], action[share], state, uniform[share], noise[share]
            z[share], state, reward[share], ends[share] = rival.advance(*own, self.temperature)
            states.append(state)
        return following._replace(z=z, rival_states=tuple(states)), reward, ends
