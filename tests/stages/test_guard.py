"""Guards by hand-made rounds, and what the dream is held against."""

import numpy as np
import pytest

from worldmodels.rollouts.store import RolloutStore
from worldmodels.stages.dream_score import payable
from worldmodels.stages.guard import Round, out_of_patience, repaired, warnings_of
from worldmodels.types import Episode


def rounds_of(gaps, payable=10.0):
    return [Round(n, 0, 0.0, 0.0, 1.0 + gap, 1.0, payable) for n, gap in enumerate(gaps)]


def test_a_dream_that_pays_more_than_the_world_ever_did():
    assert warnings_of(rounds_of([0.5], payable=1.6)) == []
    (found,) = warnings_of(rounds_of([0.5], payable=1.4))
    assert "1.50" in found and "1.40" in found
    assert warnings_of([Round(1, 0, 0.0)]) == [], "nothing was looked at"


@pytest.mark.parametrize(
    ("gaps", "suspicious"),
    [([0, 1, 2, 3], True), ([9, 0, 1, 2, 3], True), ([0, 1, 2], False), ([0, 1, 1, 3], False), ([3, 2, 1, 0], False)],
)
def test_a_gap_that_grows_for_three_rounds(gaps, suspicious):
    assert any("more and more" in text for text in warnings_of(rounds_of(gaps))) == suspicious


def test_repairs_add_up():
    plan = {"controller": {"temperature": 1.0, "horizon": 40, "doubt": 0.0}, "collect": {"episodes": 80}, "memory": {}}
    found = repaired(plan, ["temperature", "horizon", "counter_examples"], 2)
    assert found["controller"] == {"temperature": pytest.approx(1.15**2), "horizon": 22, "doubt": 0.0}
    assert found["collect"] == {"episodes": 180} and plan["controller"]["horizon"] == 40
    assert [repaired(plan, ["disagreement"], times)["controller"]["doubt"] for times in range(4)] == [0, 5, 10, 20]
    assert repaired(plan, [], 2) == plan and repaired(plan, ["horizon"], 0) == plan


def test_patience():
    for scores, patience, over in (
        ([1, 2], 2, False),
        ([3, 1, 2], 2, True),
        ([3, 1, 4], 2, False),
        ([3, 3, 3], 2, True),
        ([3, 1, 1, 1], None, False),
    ):
        assert out_of_patience(scores, patience) == over


def test_the_most_that_any_stretch_has_paid(tmp_path):
    """Rewards 0 4 2 0 0 and 5: of stretches of two, 4 + 2 pays 3 a step; the short episode counts as one."""
    store = RolloutStore.create(tmp_path / "store", {"id": "x", "action": {"type": "discrete", "n": 2}})
    for seed, rewards in ((1, [0, 4, 2, 0, 0]), (2, [5])):
        steps = len(rewards)
        frames, actions = np.zeros((steps + 1, 2, 2, 3), np.uint8), np.zeros(steps, np.int64)
        store.append(Episode(seed, frames, actions, np.array(rewards, np.float32), True, False), "hand")
    assert payable([store], 2) == 5.0, "the short episode is rich"
    assert payable([store], 1) == 5.0
    lean = RolloutStore.create(tmp_path / "lean", store.environment)
    lean.append(
        Episode(
            3,
            np.zeros((6, 2, 2, 3), np.uint8),
            np.zeros(5, np.int64),
            np.array([0, 4, 2, 0, 0], np.float32),
            True,
            False,
        ),
        "hand",
    )
    assert payable([lean], 2) == 3.0
    assert payable([lean], 5) == payable([lean], 9) == pytest.approx(6 / 5)
