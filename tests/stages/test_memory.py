"""What M's checkpoint holds besides its weights: where its dreams begin."""

import pytest
import torch

from worldmodels import checkpoints
from worldmodels.errors import UserError
from worldmodels.stages.collect import collect
from worldmodels.stages.memory import train_mdnrnn
from worldmodels.stages.vision import train_vae
from worldmodels.tracking import Run
from worldmodels.worlds.dream_env import dream_from_checkpoint

LEARNING = {"update_steps": 2, "validations": 1, "seed": 0, "device": "cpu"}
SIZES = {"batch_size": 4, "window": 6, "context": 3, "starts": 32, "clip_value": 1.0}


@pytest.fixture
def make_memory(tmp_path, blob_settings):
    """Two stores and their V, a third one without a training episode; then M's checkpoint for the given settings."""
    settings = {"runs": str(tmp_path / "runs"), "seed": 0, "wandb": {"mode": "disabled"}}
    stores = [tmp_path / "old", tmp_path / "new", tmp_path / "held out"]
    for number, (store, episodes) in enumerate(zip(stores, (4, 4, 1))):
        collect(Run("collect", settings), store, blob_settings, episodes, "uniform", number, validation_every=2)
    *stores, lone = stores
    model = {"latent_dim": 4, "width": 0.25}
    vision = train_vae(Run("train_vae", settings), stores, model=model, batch_size=8, **LEARNING)

    def make(model=(), stores=stores, **more):
        options = {"model": {"hidden_dim": 8, **dict(model)}, "latents": tmp_path / "latents", **SIZES, **LEARNING}
        run = Run("train_mdnrnn", settings)
        made = train_mdnrnn(run, stores, vision.artefacts["checkpoint"], **options, **more)
        return made.artefacts["checkpoint"]

    make.stores, make.lone = stores, lone
    return make


def contexts_of(path):
    return checkpoints.read(path, "memory").facts["contexts"]


def test_dreams_begin_with_m_s_share_of_v_s_noise(make_memory):
    paths = [make_memory({"latent_noise": share}) for share in (1.0, 0.5, 0.0)]
    whole, half, none = map(contexts_of, paths)
    assert torch.equal(whole["mean"], half["mean"]) and torch.equal(whole["mean"], none["mean"])
    assert torch.allclose(half["log_std"].exp(), whole["log_std"].exp() / 2)
    assert whole["log_std"].exp().amin() > 0.01
    begun = dream_from_checkpoint(paths[2], batch=32).reset()[:, :4]
    found = (begun[:, None] == none["mean"][-1]).all(-1).any(1)
    assert found.all(), "without noise, at the mean of a real latent"


def test_dreams_may_begin_where_the_newest_store_does(make_memory):
    _, new = make_memory.stores
    alone, all_of_them, newest = (
        contexts_of(make_memory(**settings))
        for settings in ({"stores": [new]}, {"starts_in": "all"}, {"starts_in": "newest"})
    )
    for name, kept in newest.items():
        assert torch.equal(kept, alone[name]), "as M of that store alone would begin"
    assert not torch.equal(all_of_them["action"], newest["action"])
    with pytest.raises(UserError, match=r"unknown memory\.starts_in 'recent'; choose all or newest"):
        make_memory(starts_in="recent")
    with pytest.raises(UserError, match=r"held out holds no training episode.*set memory\.starts_in=all"):
        make_memory(stores=[new, make_memory.lone], starts_in="newest")
