"""Lightning, set up once for V, M and C."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from ..errors import UserError
from ..module import Module
from ..tracking import Progress, Run

# Lightning's greetings, and its advice for data loaders with workers, which are not used here
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
for text in (".*IterableDataset.*", ".*does not have many workers.*", ".*LeafSpec.*"):
    warnings.filterwarnings("ignore", text)


class ShowProgress(Callback):
    """A Progress that counts update steps, with the metrics named; the count and the time go into metrics.csv too."""

    def __init__(self, progress: Progress, *metrics: str):
        self.progress, self.metrics = progress, metrics

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        shown = {}
        if trainer.global_step % trainer.log_every_n_steps == 0:  # see Module.logs_now
            known = trainer.callback_metrics
            shown = {name.split("/")[-1]: float(known[name]) for name in self.metrics if name in known}
            module.log("time/seconds", self.progress.seconds, batch_size=1)
            module.log("update_step", float(trainer.global_step), batch_size=1)
        self.progress.advance(1, **shown)

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        module.log("update_step", float(trainer.global_step), batch_size=1)


def epochs_of(update_steps: int, validations: int) -> tuple[int, int]:
    """Epochs, and updates in each, for so many updates with so many looks at the validation data."""
    if update_steps < 1 or validations < 1:
        raise UserError(f"update_steps={update_steps} and validations={validations} must be at least 1")
    per_epoch = max(1, update_steps // validations)
    return max(1, update_steps // per_epoch), per_epoch


def precision_of(name: str, device: torch.device) -> str:
    """ "auto": bf16 on a GPU and on processors that multiply it, else fp32. Raises UserError for an unknown name."""
    if name not in ("auto", "32-true", "bf16-mixed"):
        raise UserError(f"unknown vision.precision {name!r}; choose auto, 32-true or bf16-mixed")
    if name != "auto":
        return name
    able = getattr(torch.cpu, "get_capabilities", dict)()
    pays = device.type == "cuda" or able.get("amx_bf16", False) or able.get("avx512_bf16", False)
    return "bf16-mixed" if pays else "32-true"


def fit(
    module: Module,
    data: Any,
    run: Run,
    epochs: int,
    updates: int,
    device: torch.device,
    label: str,
    metrics: tuple[str, ...],
    monitor: str | None = None,
    log_every: int = 10,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    precision: str = "32-true",
    callbacks: Sequence[Callback] = (),
) -> tuple[Path, float]:
    """Train for `epochs`, `updates` steps in all; returns the checkpoint and the seconds it took.

    monitor: keep the checkpoint in which this is lowest as best.ckpt, and stop where it is no longer finite; without
    it, the last one counts. clip_value: clip gradients elementwise; clip_norm: all of them as one vector. precision: as
    Lightning names it. callbacks: more of them, beside those for checkpoints and progress. Raises UserError where the
    loss was never finite.
    """
    keep = ModelCheckpoint(
        run.folder,
        filename="best" if monitor else "last",
        monitor=monitor,
        save_last=monitor is not None,
        every_n_train_steps=None if monitor else max(1, updates // 10),
        save_on_exception=monitor is None,  # what an interruption leaves is the last, not the best
        enable_version_counter=False,
    )
    stop = [EarlyStopping(monitor, patience=epochs)] if monitor else []  # for what is not finite alone
    if run.compiles:
        module.to(device).compile_loss()
    started = time.perf_counter()
    with Progress(label, updates, "updates") as progress:
        trainer = lightning.Trainer(
            accelerator="cuda" if device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=epochs,
            logger=run.loggers(),
            callbacks=[*callbacks, keep, ShowProgress(progress, *metrics), *stop],
            precision=precision,  # pyright: ignore[reportArgumentType]
            log_every_n_steps=min(log_every, max(1, updates // epochs)),
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=clip_value or clip_norm,
            gradient_clip_algorithm="value" if clip_value else "norm",
        )
        trainer.fit(module, data)
        if monitor is None:  # the periodic saves need not meet the end
            trainer.save_checkpoint(run.folder / "last.ckpt")
    if stop and stop[0].stopping_reason == EarlyStoppingReason.NON_FINITE_METRIC:
        if keep.best_model_score is None or not torch.isfinite(keep.best_model_score):
            raise UserError(f"the loss of {label} is not finite; lower the learning rate")
        print(f"{label}: {monitor} is no longer finite; the best weights of before are kept", flush=True)
    return run.folder / ("best.ckpt" if monitor else "last.ckpt"), time.perf_counter() - started
