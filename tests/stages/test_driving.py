"""M that has learned nothing, the same one each time."""

import torch
from saving import saved

from worldmodels import checkpoints
from worldmodels.memory.training import Memory
from worldmodels.stages.driving import Models
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
