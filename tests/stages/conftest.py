"""A pipeline's settings, small enough for a test."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path, blob_settings):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("run_pipeline", ["preset=demo", "name=small", "wandb.mode=disabled", "device=cpu"])
    plain = OmegaConf.to_container(config, resolve=True)
    plain |= {"env": blob_settings, "rounds": 2, "runs": str(tmp_path / "runs"), "data": str(tmp_path / "data")}
    plain["collect"] |= {"episodes": 4, "validation_every": 2, "max_steps": 20}
    plain["again"]["collect"] |= {"episodes": 3, "max_steps": None}
    plain["vision"] |= {"update_steps": 6, "validations": 2, "batch_size": 8}
    plain["vision"]["model"] |= {"latent_dim": 4, "width": 0.25}
    small = {"update_steps": 6, "validations": 2, "batch_size": 4, "window": 6, "context": 3, "starts": 16}
    plain["memory"] |= small
    plain["memory"]["model"] |= {"hidden_dim": 8}
    plain["again"]["memory"] = {"update_steps": 4}
    plain["controller"] |= {"batch": 8, "horizon": 4}
    plain["algo"] |= {"updates": 2, "steps": 4}
    plain["evaluation"] |= {"episodes": 2}
    plain["video"] |= {"steps": 5, "skip": 3}
    return plain
