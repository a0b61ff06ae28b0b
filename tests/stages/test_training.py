"""What happens where a loss is no longer a number."""

from types import SimpleNamespace

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from worldmodels.errors import UserError
from worldmodels.memory.training import Memory
from worldmodels.module import Supervised
from worldmodels.stages.training import fit
from worldmodels.vision.vae import VAE


class Doomed(Supervised):
    """Its weight falls by one with each batch; at `end` the loss becomes NaN. The gradient is 1 a step."""

    kind, learning_rate = "vision", 1.0

    def __init__(self, end):
        super().__init__()
        self.save_hyperparameters()
        self.weight = torch.nn.Parameter(torch.tensor(0.0))
        self.end = end

    def loss(self, batch):
        loss = self.weight * batch.float().mean().clamp(1, 1)
        return {"loss": loss / (1 if -self.weight < self.end else torch.tensor(torch.nan))}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0, fused=True)


class Batches(lightning.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(range(3))

    def val_dataloader(self):
        return DataLoader(range(1))


def trained(tmp_path, end, **options):
    tmp_path.mkdir(exist_ok=True)
    run = SimpleNamespace(folder=tmp_path, compiles=False, loggers=lambda: False)
    module = Doomed(end)
    path, _ = fit(module, Batches(), run, 4, 12, torch.device("cpu"), "V", (), monitor="validation/loss", **options)
    return torch.load(path, weights_only=True)["state_dict"]["weight"].item(), module.weight.item()


def test_the_best_weights_from_before_are_kept_and_no_time_is_lost(tmp_path, capsys):
    """Three batches an epoch: the second epoch ends at −6, within the third the loss is no number any more."""
    best, _ = trained(tmp_path, end=7)
    assert best == -6
    assert "no longer finite" in capsys.readouterr().out
    best, last = trained(tmp_path / "well", end=99)
    assert best == last == -12 and "finite" not in capsys.readouterr().out


def test_a_loss_that_never_was_finite_is_refused(tmp_path):
    with pytest.raises(UserError, match="learning rate"):
        trained(tmp_path, end=1)


class Slope(Supervised):
    """Weights whose gradients are 3 and 4 a step."""

    kind = "vision"

    def __init__(self, anneal=False):
        super().__init__()
        self.save_hyperparameters()
        self.anneal = anneal
        self.weights = torch.nn.Parameter(torch.zeros(2))

    def loss(self, batch):
        return {"loss": (self.weights * torch.tensor([3.0, 4.0])).sum()}

    def configure_optimizers(self):
        return self.scheduled(torch.optim.SGD(self.parameters(), lr=1.0, fused=True))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("clip, step", [("clip_norm", (0.6, 0.8)), ("clip_value", (1.0, 1.0))])
def test_gradients_are_clipped_in_either_precision(tmp_path, clip, step, precision):
    """(3, 4) is of length 5: at most 1 as a vector it is (0.6, 0.8), entry by entry (1, 1). Three updates."""
    run = SimpleNamespace(folder=tmp_path, compiles=False, loggers=lambda: False)
    module = Slope()
    fit(module, Batches(), run, 1, 3, torch.device("cpu"), "V", (), precision=precision, **{clip: 1.0})
    assert module.weights.tolist() == pytest.approx([-3 * part for part in step], rel=1e-3)


def test_the_rate_falls_over_all_epochs(tmp_path):
    """Six updates in two epochs at rates of 1, 5/6, …, 1/6: 3.5 gradients in place of 6."""
    for anneal, gradients in ((False, 6), (True, 3.5)):
        run = SimpleNamespace(folder=tmp_path, compiles=False, loggers=lambda: False)
        module = Slope(anneal)
        fit(module, Batches(), run, 2, 6, torch.device("cpu"), "V", ())
        assert module.weights.tolist() == pytest.approx([-3 * gradients, -4 * gradients])


@pytest.mark.parametrize("make", [VAE, lambda **options: Memory(3, 2, **options)])
def test_v_and_m_take_it_from_their_settings(make):
    falling = make(learning_rate=0.5, anneal=True)
    falling._trainer = SimpleNamespace(estimated_stepping_batches=4)
    made = falling.configure_optimizers()
    made["optimizer"].step(), made["lr_scheduler"]["scheduler"].step()
    assert made["optimizer"].param_groups[0]["lr"] == pytest.approx(0.375)
    assert make(learning_rate=0.5).configure_optimizers().param_groups[0]["lr"] == 0.5
