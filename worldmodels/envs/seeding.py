"""Seeds of environments. Training, validation and test draw from three intervals that never meet."""

from __future__ import annotations

import numpy as np

# Gymnasium takes any non-negative integer; 31 bits are safe for every environment.
SPACES = {
    "train": range(0, 2**30),
    "validation": range(2**30, 2**30 + 2**29),
    "test": range(2**30 + 2**29, 2**31),
}


def environment_seed(split: str, index: int, run_seed: int = 0) -> int:
    """The `index`-th seed of a split.

    Test and validation seeds are the same for every run, so that scores compare; training seeds differ by `run_seed`.
    """
    space = SPACES[split]
    if split != "train":
        return space[index % len(space)]
    word = np.random.SeedSequence([run_seed, index]).generate_state(1, np.uint64)[0]
    return space[int(word % len(space))]


def split_of(seed: int) -> str:
    """Which split an environment's seed belongs to.

    Raises ValueError for a seed outside all of them.
    """
    for split, space in SPACES.items():
        if seed in space:
            return split
    raise ValueError(f"seed {seed} is outside of the seed spaces [0, 2^31)")
