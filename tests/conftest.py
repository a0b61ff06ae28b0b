import os

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import numpy as np
import pytest
import torch
from wandb_server import wandb_server  # noqa: F401  a fixture

from worldmodels.envs.workers import default_workers
from worldmodels.types import Episode

torch.set_num_threads(min(2, default_workers()))  # more threads than cores wait for each other


@pytest.fixture
def blob_settings():
    """The config section of the Blob environment."""
    return {
        "id": "environments:Blob-v0",
        "kwargs": {},
        "action_repeat": 1,
        "action_low": None,
        "action_high": None,
        "crop_rows": None,
        "frame_size": None,
        "stack": 1,
        "num_envs": 2,
        "asynchronous": False,
    }


@pytest.fixture
def memory_options():
    """How train_mdnrnn learns on the blobs: windows that fit into their episodes."""
    return {"batch_size": 4, "window": 6, "context": 3, "starts": 16, "clip_value": 1.0}


@pytest.fixture
def make_episode():
    """Episodes of numbered frames: observation[t] is filled with t, action[t] with t + 0.5, reward[t] is t."""

    def make(seed: int, length: int, terminated: bool = False, shape=(4, 4, 3)) -> Episode:
        t = np.arange(length + 1)
        return Episode(
            seed,
            np.broadcast_to(t.reshape(-1, *[1] * len(shape)), (length + 1, *shape)).astype(np.uint8),
            np.repeat(t[:-1, None] + 0.5, 3, 1).astype(np.float32),
            t[:-1].astype(np.float32),
            terminated,
            not terminated,
        )

    return make


@pytest.fixture
def environment():
    """What a store of `make_episode` remembers."""
    return {
        "id": "Numbered-v0",
        "kwargs": {},
        "action_repeat": 1,
        "action_low": None,
        "action_high": None,
        "crop_rows": None,
        "frame_size": None,
        "stack": 1,
        "action": {"type": "box", "low": [-1.0, 0.0, 0.0], "high": [1.0, 1.0, 1.0]},
        "observation_shape": [4, 4, 3],
    }
