"""What is looked at when V and M validate: numbers worked out by hand from made-up parts."""

from types import SimpleNamespace

import pytest
import torch

from worldmodels.stages.memory import MixtureInUse
from worldmodels.stages.vision import LatentsInUse
from worldmodels.types import Mixture, Posterior, Prediction, Window

TRAINER = SimpleNamespace(global_step=8)  # after update 7, as metrics.csv counts


class Notes:
    """A run and a module that keep what they are told."""

    device = torch.device("cpu")

    def __init__(self):
        self.logged, self.drawn = {}, {}

    def log(self, name, value, batch_size):
        self.logged[name] = float(value)

    def bars(self, name, heights, step):
        self.drawn[name] = (heights.tolist(), step)

    def encode(self, frame):
        return Posterior(frame, torch.zeros_like(frame))

    def network(self, z, action, first):
        """Sure of component 0 in dimension 0 and of component 2 in dimension 1; torn between 0 and 1 in dimension 2."""
        assert not z.any(), "without noise, the means"
        logits = torch.full((*z.shape[:2], 3, 3), -torch.inf)
        logits[..., 0, 0] = logits[..., 1, 2] = 0.0
        logits[..., 2, :2] = 0.0
        logits[first] = 0.0  # but where an episode begins it knows nothing
        return Prediction(Mixture(logits, logits, logits), z, z), None


def test_active_units_over_all_batches_of_a_look():
    """Alone no batch has a mean that varies; both together have ±1 in dimension 0, a variance of 1 and a KL of ½."""
    notes = Notes()
    look = LatentsInUse(notes)
    for _ in range(2):  # nothing of the first look is left in the second
        for value in (1.0, -1.0):
            look.on_validation_batch_end(TRAINER, notes, None, torch.tensor([[value, 2.0]]).expand(3, 2), 0)
        look.on_validation_epoch_end(TRAINER, notes)
        assert notes.logged == {"validation/active_units": 1.0}
        assert notes.drawn == {"validation/kl_per_dimension": ([0.5, 2.0], 7)}


def test_mixtures_used_over_the_valid_steps_of_a_look():
    """1, 1 and 2 components: 4/3 in the mean; the heaviest weighs 1, 1 and ½, the second 0, 0 and ½."""
    notes, flags = Notes(), torch.zeros(4, 2, dtype=torch.bool)
    notes.latent_noise = 0.0
    first, valid = flags.clone(), ~flags
    first[3], valid[3] = True, False  # knows nothing there, and that must not count
    latents = Posterior(torch.zeros(5, 2, 3), torch.zeros(5, 2, 3))
    window = Window(latents, torch.zeros(4, 2, 1), torch.zeros(4, 2), flags, first, valid)
    look = MixtureInUse(notes, seed=0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for _ in range(2):
        for batch in range(2):
            look.on_validation_batch_end(TRAINER, notes, None, window, batch)
        look.on_validation_epoch_end(TRAINER, notes)
        assert notes.logged == {"validation/mixtures_used": pytest.approx(4 / 3)}
        assert notes.drawn["validation/mixture_weights"] == (pytest.approx([2.5 / 3, 0.5 / 3, 0.0]), 7)
    assert torch.equal(torch.get_rng_state(), before), "training goes on as if nobody had looked"
