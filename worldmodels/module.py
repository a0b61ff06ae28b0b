"""What V, M and the learners share: one optimiser, checkpoints that say what they are, logging that costs little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import lightning
import torch
from torch import Tensor, nn

from . import checkpoints
from .recording import Recorded


def allow_variants() -> None:
    """torch compiles eight variants of the same lines and gives up at the ninth; a long pipeline may need more."""
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)


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
        self.compiled: Callable[[Any], dict[str, Tensor]] | None = None
        self.gradients: list[Tensor] = []  # of the batch that `compiled` was called with last

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """The "loss" to step on, and its parts, which are logged too."""
        raise NotImplementedError

    def trained(self) -> list[nn.Parameter]:
        """The parameters that have gradients."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def compile_loss(self) -> None:
        """From here on `loss` runs compiled, whose first call takes some ten seconds. On a GPU, where kernels are
        shorter than what Python takes to launch them, the way from a batch to the gradients is recorded in place of
        that.

        The weights must be where they will be trained.
        """
        if next(self.parameters()).device.type == "cuda":
            self._record()
        else:
            allow_variants()
            self.loss = torch.compile(self.loss)

    def _record(self) -> None:
        recorded = Recorded(self._losses_and_gradients)

        def compiled(batch: Any) -> dict[str, Tensor]:
            losses, self.gradients = recorded(batch)
            return losses

        self.compiled = compiled

    def _losses_and_gradients(self, batch: Any) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Without autograd's own accumulation, into which nothing can be recorded."""
        # autocast would keep its copies of the weights from one call to the next
        kind = next(self.parameters()).device.type
        autocast = torch.autocast(
            kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False
        )
        with torch.enable_grad(), autocast:
            losses = self.loss(batch)
        trained = self.trained()
        with torch.autocast(kind, enabled=False):  # a backward pass has the precision of its forward one
            gradients = torch.autograd.grad(losses["loss"], trained)
        # laid out in memory as the weights are, which the fused optimiser takes for granted
        laid_out = [
            torch.empty_like(weight).copy_(gradient) for weight, gradient in zip(trained, gradients, strict=True)
        ]
        return {name: value.detach() for name, value in losses.items()}, laid_out

    def losses_of(self, batch: Any) -> dict[str, Tensor]:
        """The losses that `backward` is to follow."""
        return (self.compiled or self.loss)(batch)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if self.compiled is None:
            return super().backward(loss, *args, **kwargs)
        for parameter, gradient in zip(self.trained(), self.gradients, strict=True):
            parameter.grad = gradient

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
        optimizer = torch.optim.Adam(self.trained(), lr=self.learning_rate, fused=True)
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
        losses = self.losses_of(batch)
        if self.logs_now:
            self.log_losses("train", losses)
        return losses["loss"]

    def validation_step(self, batch: Any, _: int) -> None:
        self.log_losses("validation", self.loss(batch))
