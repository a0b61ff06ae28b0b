"""A pipeline's settings, small enough for a test."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from worldmodels.stages.pipeline import merged

ROOT = Path(__file__).parents[2]
SMALL = {
    "collect": {"episodes": 4, "validation_every": 2, "max_steps": 20},
    "vision": {"update_steps": 6, "validations": 2, "batch_size": 8, "model": {"latent_dim": 4, "width": 0.25}},
    "memory": {
        "update_steps": 6,
        "validations": 2,
        "batch_size": 4,
        "window": 6,
        "context": 3,
        "starts": 16,
        "model": {"hidden_dim": 8},
    },
    "controller": {"batch": 8, "horizon": 4},
    "evaluation": {"episodes": 2},
    "diagnosis": {"frames": 32, "windows": 4, "context": 3, "horizon": 8},
}


@pytest.fixture
def small(tmp_path, blob_settings):
    """Composes the config of a script that makes V and M, and makes it small: small("run_pipeline", "preset=demo")."""

    def make(script, *overrides):
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = compose(script, ["name=small", "wandb.mode=disabled", "device=cpu", *overrides])
        plain = OmegaConf.to_container(config, resolve=True)
        plain |= {"env": blob_settings, "runs": str(tmp_path / "runs"), "data": str(tmp_path / "data")}
        for section in SMALL.keys() & plain.keys():
            plain[section] = merged(plain[section], SMALL[section])
        return plain

    return make


@pytest.fixture
def settings(small):
    """Of a pipeline of two rounds."""
    plain = small("run_pipeline", "preset=demo")
    plain["rounds"] = 2
    plain["again"]["collect"] |= {"episodes": 3, "max_steps": None}
    plain["again"]["memory"] = {"update_steps": 4}
    plain["algo"] |= {"updates": 2, "steps": 4}
    plain["video"] |= {"steps": 5, "skip": 3}
    return plain
