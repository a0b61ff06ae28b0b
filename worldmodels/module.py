"""What V, M and the learners share: one optimiser, checkpoints that say what they are, logging that costs little."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import lightning
import torch
from torch import Tensor, nn

from . import checkpoints


class Module(lightning.LightningModule):
    """A part that is trained.

    kind: one of `checkpoints.MAKES`. anneal: the learning rate falls linearly to 0 over the training. facts: what it
    was made from, kept in its checkpoint. optimizer_state: with which training goes on.
    """

    kind: str
    learning_rate: float
    anneal: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, Any] = {}
        self.optimizer_state: dict[str, Any] | None = None

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """The "loss" to step on, and its parts, which are logged too."""
        raise NotImplementedError

    def compile_loss(self) -> None:
        """From here on `loss` runs compiled; the first call takes some ten seconds."""
        self.loss = torch.compile(self.loss)

    @property
    def logs_now(self) -> bool:
        """Whether Lightning writes this update to the loggers: what it would throw away need not be handed to it."""
        trainer: Any = self.trainer
        return (trainer.global_step + 1) % max(1, trainer.log_every_n_steps) == 0

    def log_losses(self, phase: str, losses: dict[str, Tensor]) -> None:
        self.log_dict({f"{phase}/{name}": value for name, value in losses.items()}, batch_size=1)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """A replay draws on the device already."""
        return batch

    def configure_optimizers(self) -> Any:
        """Adam in one kernel for all parameters, its moments where training goes on."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.learning_rate, fused=True)
        return self.scheduled(checkpoints.restored(optimizer, self.optimizer_state))

    def scheduled(self, optimizer: torch.optim.Optimizer) -> Any:
        """The optimiser as Lightning takes it, its rate falling where `anneal`."""
        if not self.anneal:
            return optimizer
        updates = int(self.trainer.estimated_stepping_batches)
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: max(0.0, 1 - update / updates))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falling, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning does, which refuses it for one-kernel optimisers under autocast: only float16 has a scale that
        these would have to take out first."""
        if gradient_clip_val:
            clips = nn.utils.clip_grad_value_ if gradient_clip_algorithm == "value" else nn.utils.clip_grad_norm_
            clips(self.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoints.stamp(checkpoint, self.kind, dict(self.hparams), self.facts)

    @classmethod
    def load(cls, path: str | Path) -> tuple[Self, checkpoints.Checkpoint]:
        """The trained part and what its checkpoint says. Raises UserError, see `checkpoints.read`."""
        return checkpoints.build(cls, checkpoints.read(path, cls.kind))


class Supervised(Module):
    """A part that fits data."""

    def training_step(self, batch: Any, _: int) -> Tensor:
        losses = self.loss(batch)
        if self.logs_now:
            self.log_losses("train", losses)
        return losses["loss"]

    def validation_step(self, batch: Any, _: int) -> None:
        self.log_losses("validation", self.loss(batch))
