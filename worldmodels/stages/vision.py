"""Train V on the frames of stores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from ..envs.make import versions
from ..errors import UserError
from ..evaluation.pictures import grid, write_png
from ..rollouts.datamodule import ReplayData
from ..rollouts.replay import Replay, replay_of
from ..rollouts.store import open_stores, sources_of
from ..rollouts.streaming import open_replay, spread_within
from ..tracking import Run, StageResult, pick_device
from ..types import Posterior
from ..vision.vae import VAE, latent_use
from .training import epochs_of, fit, precision_of


def train_vae(
    run: Run,
    stores: Sequence[str | Path],
    model: dict[str, Any],
    update_steps: int,
    batch_size: int,
    validations: int,
    seed: int,
    device: str = "auto",
    continue_from: str | Path | None = None,
    replay_budget: int | None = None,
    precision: str = "auto",
    clip_norm: float | None = None,
) -> StageResult:
    """V with the lowest validation loss of `validations` looks, spread over `update_steps` batches.

    continue_from: a V whose weights and optimiser state to go on with; `model` may change all but its sizes.
    replay_budget: bytes of training frames to hold in memory, see `rollouts.streaming.open_replay`.
    precision: see `precision_of`. clip_norm: of the gradient, at most.
    """
    where = pick_device(device)
    precision = precision_of(precision, where)
    epochs, per_epoch = epochs_of(update_steps, validations)
    opened = open_stores(stores)
    shape = opened[0].environment["observation_shape"]
    if shape != [64, 64, 3]:
        raise UserError(f"V sees frames of 64×64×3, {opened[0].folder} holds {shape}; collect with env.frame_size=64")
    lightning.seed_everything(seed, verbose=False)
    vae = VAE(**model)
    if continue_from is not None:
        before, checkpoint = VAE.load(continue_from)
        if any(before.hparams[size] != vae.hparams[size] for size in ("network", "latent_dim", "width")):
            raise UserError(f"{continue_from} has another network, latent_dim or width; set vision.model to match")
        vae.load_state_dict(checkpoint.state)
        vae.optimizer_state = checkpoint.optimizer
    vae.facts = {"environment": opened[0].environment}
    inputs = {f"store_{number}": store.folder / "manifest.json" for number, store in enumerate(opened)}
    if continue_from is not None:
        inputs["continued"] = Path(continue_from)
    run.begin(vae.facts["environment"]["id"], inputs, versions())

    held_out_sources = sources_of(opened, "validation")
    held_out = replay_of(held_out_sources[spread_within(held_out_sources)], where)
    shown = ("train/reconstruction", "train/kl", "validation/loss")
    opening = open_replay(sources_of(opened, "train"), where, budget_bytes=replay_budget, seed=seed)
    with closing(opening) as train:
        data = ReplayData(
            lambda generator: train.frames(batch_size, generator),
            lambda generator: held_out.frames(batch_size, generator),
            per_epoch,
            max(1, min(10, len(held_out) // batch_size)),
            seed,
            where,
        )
        path, _ = fit(
            vae,
            data,
            run,
            epochs,
            epochs * per_epoch,
            where,
            "V",
            shown,
            monitor="validation/loss",
            precision=precision,
            clip_norm=clip_norm,
            callbacks=[LatentsInUse(run)],
        )
    best, _ = VAE.load(path)
    scores = validation_scores(best.to(where), held_out)
    picture = run.folder / "reconstructions.png"
    draw_reconstructions(best, held_out, picture)
    return StageResult(
        epochs * per_epoch * batch_size,
        "frames",
        f"mean squared error {scores['mse']:.5f}, KL {scores['kl']:.1f} nats",
        {"checkpoint": path, "picture": picture},
        scores,
    )


class LatentsInUse(Callback):
    """validation/active_units of the frames that V is validated on; W&B gets the KL of each dimension as bars."""

    def __init__(self, run: Run):
        self.run = run
        self.seen: list[Posterior] = []

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.seen.append(module.encode(batch))

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        found = latent_use(self.seen)
        self.seen.clear()
        module.log("validation/active_units", found.active.sum().float(), batch_size=1)
        self.run.bars("validation/kl_per_dimension", found.kl, trainer.global_step - 1)


@torch.no_grad()
def validation_scores(vae: VAE, replay: Replay, frames: int = 512) -> dict[str, float]:
    """Reconstruction error per pixel and channel in [0, 1]², and KL, over frames spread evenly over the replay."""
    rows = torch.linspace(0, len(replay) - 1, min(frames, len(replay))).long().to(replay.device)
    losses = vae.loss(replay.at(rows))  # pyright: ignore[reportArgumentType]
    return {
        "mse": float(losses["reconstruction"]) / (64 * 64 * 3),
        "kl": float(losses["kl"]),
        "loss": float(losses["loss"]),
    }


def draw_reconstructions(vae: VAE, replay: Replay, path: Path, columns: int = 8) -> None:
    """Held-out frames, V's reconstructions of them, and frames decoded from z ~ N(0, 1)."""
    rows = torch.linspace(len(replay) // 50, len(replay) - 1, columns).long().to(replay.device)
    real = replay.at(rows)
    reconstructed = vae.decode(vae.encode(real).mean)  # pyright: ignore[reportArgumentType]
    prior = vae.decode(torch.randn(columns, vae.latent_dim))
    named = [("real", real), ("reconstruction", reconstructed), ("decoded from the prior", prior)]
    write_png(path, grid([(name, list(frames.cpu().numpy())) for name, frames in named]))
