"""Signs that C has found a flaw of M rather than a way to drive, and what helps against it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import UserError

GROWING = 3  # rounds in a row
# by these factors each time: a dream that is less sure, that strays less far, more episodes of what C now does, or a
# higher price of what several M's do not agree upon
REPAIRS = {"temperature": 1.15, "horizon": 0.75, "counter_examples": 1.5, "disagreement": 2.0}
DOUBT = 5.0  # the first price of disagreement, where there was none


class Round(NamedTuple):
    """What a round of the iterative procedure came to.

    Rewards are means for each step of a dream's horizon; what lies behind an end pays nothing, in either world.
    """

    number: int
    frames: int  # real ones so far, all of them
    seconds: float  # so far
    validation: float | None = None  # mean return of C on validation tracks
    dream_reward: float | None = None  # of C in the dream
    real_reward: float | None = None  # of C on validation tracks
    payable: float | None = None  # the most that any real stretch as long as a dream has paid
    horizon: int | None = None  # of a dream

    @property
    def gap(self) -> float | None:
        """By how much the dream flatters C."""
        if self.dream_reward is None or self.real_reward is None:
            return None
        return self.dream_reward - self.real_reward


def warnings_of(rounds: Sequence[Round]) -> list[str]:
    """What is suspicious about the last of `rounds`."""
    last = rounds[-1]
    found = []
    if last.dream_reward is not None and last.payable is not None and last.dream_reward > last.payable:
        found.append(
            f"the dream pays {last.dream_reward:.2f} a step, the real environment never more than {last.payable:.2f}"
        )
    gaps = [one.gap for one in rounds[-GROWING - 1 :] if one.horizon == last.horizon]  # others cannot be compared
    known = [gap for gap in gaps if gap is not None]
    grows = len(known) == GROWING + 1 and all(later > earlier for earlier, later in itertools.pairwise(known))
    if grows and known[-1] > 0:  # a dream that was too hard and is less so flatters nobody
        found.append(f"the dream has flattered C more and more for {GROWING} rounds, now by {known[-1]:.2f} a step")
    return found


def check_repairs(names: Sequence[str]) -> None:
    """Raises UserError for an unknown repair."""
    if strange := set(names) - set(REPAIRS):
        raise UserError(f"guard.repair names {strange.pop()!r}; choose among {', '.join(REPAIRS)}")


def repaired(plan: dict[str, Any], names: Sequence[str], times: int) -> dict[str, Any]:
    """A round's plan after `times` repairs by `names`."""
    controller, collect = dict(plan["controller"]), dict(plan["collect"])
    if "temperature" in names:
        controller["temperature"] *= REPAIRS["temperature"] ** times
    if "horizon" in names:
        controller["horizon"] = max(1, round(controller["horizon"] * REPAIRS["horizon"] ** times))
    if "counter_examples" in names:
        collect["episodes"] = round(collect["episodes"] * REPAIRS["counter_examples"] ** times)
    if "disagreement" in names and times:
        controller["doubt"] = (controller["doubt"] or DOUBT / REPAIRS["disagreement"]) * REPAIRS[
            "disagreement"
        ] ** times
    return {**plan, "controller": controller, "collect": collect}


def out_of_patience(scores: Sequence[float], patience: int | None) -> bool:
    """Whether the last `patience` rounds brought no better score than those before."""
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
