"""Guards by hand-made rounds, and what the dream is held against."""

import numpy as np
import pytest

from worldmodels.stages.dream_score import Paid, expected, payable, stretches
from worldmodels.stages.guard import Round, out_of_patience, repaired, warnings_of


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


def test_a_dream_that_is_too_hard_and_gets_nearer_flatters_nobody():
    assert warnings_of(rounds_of([-3, -2, -1, -0.1])) == [] != warnings_of(rounds_of([-3, -2, -1, 0.1]))


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


def paid(*rewards, ended=True):
    return Paid(np.array(rewards, np.float32), ended)


def test_the_most_that_any_stretch_has_paid():
    """Of stretches of two, 4 + 2 pays 3 a step; an episode of one step is over after it, and pays 5 of 2 steps."""
    long, short = paid(0, 4, 2, 0, 0), paid(5)
    assert payable([long], 2) == payable([short, long], 2) == 3.0
    assert payable([short], 2) == 2.5 and payable([long, short], 1) == 5.0
    assert payable([long], 5) == pytest.approx(6 / 5) and payable([long], 12) == pytest.approx(6 / 12)
    assert payable([paid(0, 4, 2, 0, 0, ended=False)], 12) == pytest.approx(6 / 5), "cut off, it might have gone on"
    assert payable([], 2) == -float("inf")


def test_what_a_stretch_pays_from_any_step_on():
    """Three steps from the first, second, third and fourth of 1 2 3 4 on: 6, 9, 7, 4, where it ends; where it is cut
    off, the last two go on with 3½ and 4 a step."""
    assert stretches(paid(1, 2, 3, 4), 3) == pytest.approx([2, 3, 7 / 3, 4 / 3])
    assert stretches(paid(1, 2, 3, 4, ended=False), 3) == pytest.approx([2, 3, 3.5, 4])
    assert expected([paid(1, 2, 3, 4), paid(8)], 3) == pytest.approx((26 / 3 + 8 / 3) / 5)


def test_a_dream_that_never_ends_flatters_where_each_step_pays_the_same():
    """Rewards a step are those of the world, 4; what is wrong is that the dream's C lives on: 500, 700, 900 and 1,000
    steps of 1,000, where games end after 100: from anywhere in them on, after 50½."""
    real = expected([paid(*[4.0] * 100)] * 5, 1000)
    assert real == pytest.approx(4 * 50.5 / 1000)
    rounds = [
        Round(n, 0, 0.0, 400.0, 4 * lived / 1000, real, 4.0, 1000) for n, lived in enumerate((500, 700, 900, 1000))
    ]
    assert warnings_of(rounds[:3]) == []
    (found,) = warnings_of(rounds)
    assert "more and more for 3 rounds, now by 3.80 a step" in found
    repaired_since = [rounds[0]._replace(horizon=1300), *rounds[1:]]
    assert warnings_of(repaired_since) == [], "dreams of another length cannot be compared"
