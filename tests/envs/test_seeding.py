import itertools

import pytest

from worldmodels.envs.seeding import SPACES, environment_seed, split_of


def test_the_three_spaces_never_meet():
    bounds = sorted((space.start, space.stop) for space in SPACES.values())
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(bounds))
    assert bounds[0][0] >= 0 and bounds[-1][1] <= 2**31


@pytest.mark.parametrize("split", SPACES)
def test_seeds_of_a_split_are_its_own_and_differ(split):
    seeds = [environment_seed(split, index, run_seed) for index in range(500) for run_seed in (0, 7)]
    assert {split_of(seed) for seed in seeds} == {split}
    assert len(set(seeds)) == (1000 if split == "train" else 500), "only training seeds depend on the run"


def test_a_seed_outside_belongs_to_no_split():
    with pytest.raises(ValueError, match="outside"):
        split_of(2**31)
