"""The dream as a checkpoint of M holds it."""

import pytest
import torch
from saving import make_contexts, saved, untrained

from worldmodels.errors import UserError
from worldmodels.memory.training import Memory
from worldmodels.worlds.dream_env import dream_from_checkpoint
from worldmodels.worlds.dream_world import contexts_as_plain
from worldmodels.worlds.rival_dreams import DoubtedDream, EnsembleDream

BOX = {"type": "box", "low": [-1.0, -1.0], "high": [1.0, 1.0]}


@pytest.fixture
def memory(tmp_path):
    """Saves an M of that V's latents."""

    def save(name, vision="v"):
        torch.manual_seed(len(name))
        module = Memory(4, 2, hidden_dim=8)
        untrained(module.network)
        facts = {"environment": {"action": BOX}, "vision_sha256": vision}
        return saved(module, tmp_path / name, contexts=contexts_as_plain(make_contexts(BOX)), **facts)

    return save


def test_rivals_of_m_are_others_of_the_same_v(memory):
    own = memory("m")
    world = dream_from_checkpoint(own, 3, rivals=[memory("rival")], doubt=1.0)
    assert isinstance(world, DoubtedDream) and len(world.fused_rivals) == 1
    shared = dream_from_checkpoint(own, 3, rivals=[memory("rival")], ensemble=True)
    assert isinstance(shared, EnsembleDream)
    with pytest.raises(UserError, match="too few"):
        dream_from_checkpoint(own, 1, rivals=[memory("rival")], ensemble=True)
    with pytest.raises(UserError, match="needs other M's"):
        dream_from_checkpoint(own, 3, ensemble=True)
    with pytest.raises(UserError, match="is M itself"):
        dream_from_checkpoint(own, 3, rivals=[own], doubt=1.0)
    with pytest.raises(UserError, match="another V"):
        dream_from_checkpoint(own, 3, rivals=[memory("stranger", vision="w")], doubt=1.0)
