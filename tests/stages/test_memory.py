"""What M's checkpoint holds besides its weights: where its dreams begin."""

import numpy as np
import pytest
import torch

from worldmodels import checkpoints
from worldmodels.errors import UserError
from worldmodels.rollouts.store import RolloutStore
from worldmodels.stages.collect import collect
from worldmodels.stages.driving import Models
from worldmodels.stages.memory import train_mdnrnn
from worldmodels.stages.video import dream_along
from worldmodels.stages.vision import train_vae
from worldmodels.tracking import Run
from worldmodels.worlds.dream_env import dream_from_checkpoint


@pytest.fixture
def train(tmp_path, blob_settings, memory_options):
    """Blobs and a V of them; M's by the options given, with the folder of the blobs and V's checkpoint."""
    settings = {"runs": str(tmp_path / "runs"), "seed": 0, "wandb": {"mode": "disabled"}}
    learning = {"update_steps": 2, "validations": 1, "seed": 0, "device": "cpu"}
    folder = tmp_path / "blobs"
    collect(Run("collect", settings), folder, blob_settings, 4, "uniform", 0, validation_every=2)
    model = {"latent_dim": 4, "width": 0.25}
    vae = train_vae(Run("train_vae", settings), [folder], model=model, batch_size=8, **learning)
    vision = vae.artefacts["checkpoint"]

    def trained(**model_and_windows):
        options = {**memory_options, "latents": tmp_path / "latents", **learning, **model_and_windows}
        return train_mdnrnn(Run("train_mdnrnn", settings), [folder], vision, **options)

    return trained, folder, vision


def test_dreams_begin_with_m_s_share_of_v_s_noise(train):
    train_m, folder, vision = train

    def trained(share):
        path = train_m(model={"hidden_dim": 8, "latent_noise": share}).artefacts["checkpoint"]
        return path, checkpoints.read(path, "memory").facts["contexts"]

    (_, whole), (_, half), (path, none) = (trained(share) for share in (1.0, 0.5, 0.0))
    assert torch.equal(whole["mean"], half["mean"]) and torch.equal(whole["mean"], none["mean"])
    assert torch.allclose(half["log_std"].exp(), whole["log_std"].exp() / 2)
    assert whole["log_std"].exp().amin() > 0.01

    begun = dream_from_checkpoint(path, batch=32).reset()[:, :4]
    found = (begun[:, None] == none["mean"][-1]).all(-1).any(1)
    assert found.all(), "without noise, at the mean of a real latent"

    models, store = Models(vision, path, torch.device("cpu")), RolloutStore.open(folder)
    episode = store.read(store.entries[0])
    mean = models.vision.encode(torch.from_numpy(episode.observation[:4])).mean[3]
    for seed in (0, 1):  # a film's dream as well
        assert torch.equal(dream_along(models, episode, 3, 1, 1.0, seed)[0], mean)


def test_m_learns_from_windows_that_go_through_ends(train):
    """The blobs' episodes are longer than the window: what is drawn differs where windows may go on behind them."""
    train_m, *_ = train
    model = {"hidden_dim": 8, "restart_input": True}
    plain, through = (train_m(model=model, through=one).scores for one in (False, True))
    assert plain != through and all(np.isfinite(list(through.values())))


@pytest.mark.parametrize(("overhang", "told"), [(False, False), (True, True)])
def test_windows_go_through_ends_only_where_m_is_told_of_them(overhang, told, tmp_path, memory_options):
    model = {"hidden_dim": 8, "restart_input": told}
    settings = {"runs": str(tmp_path), "seed": 0, "wandb": {"mode": "disabled"}}
    options = {**memory_options, "update_steps": 1, "validations": 1, "seed": 0}
    with pytest.raises(UserError, match=r"memory\.through needs .*restart_input=true.*memory\.overhang=false"):
        train_mdnrnn(Run("train_mdnrnn", settings), [], "", model, through=True, overhang=overhang, **options)
