"""M that has learned nothing, the same one each time; checkpoints of earlier versions."""

import pytest
import torch
from saving import save_models, saved

from worldmodels import checkpoints
from worldmodels.errors import UserError
from worldmodels.memory.training import Memory
from worldmodels.stages.driving import Models, load_driver
from worldmodels.vision.vae import VAE


def test_a_random_memory_is_its_seed_s_and_not_the_trained_one(tmp_path):
    vision = saved(VAE(latent_dim=4, width=0.25), tmp_path / "v.ckpt", environment={})
    facts = {"vision_sha256": checkpoints.sha256(vision), "environment": {"action": {"type": "discrete", "n": 2}}}
    memory = saved(Memory(4, 2, hidden_dim=8), tmp_path / "m.ckpt", **facts)
    made, numbers = [], []
    for seed in (3, 3, 4, None):
        torch.manual_seed(11)
        made.append(Models(vision, memory, torch.device("cpu"), seed))
        numbers.append(torch.rand(()).item())
    assert len(set(numbers)) == 1, "nobody else's numbers change"
    first, again, other, trained = made

    def weights(models):
        return models.memory.network.lstm.weight_hh_l0

    assert torch.equal(weights(first), weights(again)) and weights(first).shape == weights(trained).shape
    assert not torch.equal(weights(first), weights(other)) and not torch.equal(weights(first), weights(trained))


def test_a_checkpoint_of_an_earlier_version_says_what_it_lacks(tmp_path, blob_settings):
    controller = save_models(tmp_path, blob_settings)
    load_driver(controller, 1, "cpu")
    content = torch.load(controller, weights_only=True)
    del content[checkpoints.STAMP]["facts"]["random_memory"]
    torch.save(content, controller)
    with pytest.raises(UserError, match=r"c.ckpt does not say its 'random_memory'.*train_controller.py algo=cmaes"):
        load_driver(controller, 1, "cpu")


def test_facts_that_were_read_are_written_again(tmp_path):
    """As where training goes on: the next reader finds plain values."""
    first = saved(VAE(latent_dim=4, width=0.25), tmp_path / "v.ckpt", environment={"id": "one"})
    module, read = VAE.load(first)
    again = saved(module, tmp_path / "again.ckpt", **read.facts)
    assert checkpoints.read(again, "vision").facts == {"environment": {"id": "one"}}
    content = {}
    checkpoints.stamp(content, "vision", {}, read.facts)
    assert type(content[checkpoints.STAMP]["facts"]) is dict
