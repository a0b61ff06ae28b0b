"""Train M on the latents of stores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from ..envs.make import versions
from ..envs.spaces import action_dim
from ..errors import UserError
from ..memory import mixture
from ..memory.training import Memory
from ..rollouts.datamodule import ReplayData
from ..rollouts.latents import encode_store, folder_of
from ..rollouts.replay import replay_of
from ..rollouts.store import RolloutStore, Source, open_stores, sources_of
from ..rollouts.streaming import open_replay, spread_within
from ..tracking import Progress, Run, StageResult, pick_device
from ..types import Window
from ..vision.vae import VAE, sample
from ..worlds.dream_world import contexts_as_plain
from .training import epochs_of, fit


def train_mdnrnn(
    run: Run,
    stores: Sequence[str | Path],
    vision: str | Path,
    model: dict[str, Any],
    update_steps: int,
    batch_size: int,
    window: int,
    validations: int,
    context: int,
    starts: int,
    clip_value: float,
    seed: int,
    latents: str | Path = "data/latents",
    device: str = "auto",
    continue_from: str | Path | None = None,
    replay_budget: int | None = None,
    overhang: bool = False,
    through: bool = False,
) -> StageResult:
    """M with the lowest validation loss of `validations` looks, spread over `update_steps` batches of windows.

    Its checkpoint also holds `starts` contexts of `context` real latents each, so that it can dream on its own.
    replay_budget: bytes of training latents to hold in memory, see `rollouts.streaming.open_replay`. overhang,
    through: of the windows, see `Replay.windows`; where episodes end by themselves, M else sees too few of the ends.
    Raises UserError where windows go through ends of which M is not told, or shall do both.
    """
    if through and (overhang or not model.get("restart_input")):
        raise UserError(
            "memory.through needs memory.model.restart_input=true, which tells M where an episode begins, "
            "and memory.overhang=false"
        )
    where = pick_device(device)
    epochs, per_epoch = epochs_of(update_steps, validations)
    opened = open_stores(stores)
    vae, seen = VAE.load(vision)
    if seen.facts["environment"] != opened[0].environment:
        raise UserError(
            f"{vision} was trained on another environment than {opened[0].folder} holds; train V on it first"
        )
    inputs = {f"store_{number}": store.folder / "manifest.json" for number, store in enumerate(opened)}
    inputs["vision"] = seen.path
    lightning.seed_everything(seed, verbose=False)
    memory = Memory(vae.latent_dim, action_dim(opened[0].environment["action"]), **model)
    if continue_from is not None:
        inputs["continued"] = Path(continue_from)
        before, checkpoint = Memory.load(continue_from)
        sizes = ("latent_dim", "action_dim", "hidden_dim", "mixtures", "restart_input")
        if any(before.hparams[size] != memory.hparams[size] for size in sizes):
            raise UserError(f"{continue_from} has other sizes ({', '.join(sizes)}); set memory.model to match")
        memory.load_state_dict(checkpoint.state)
        memory.optimizer_state = checkpoint.optimizer
    run.begin(opened[0].environment["id"], inputs, versions())

    encoded = encode_all(opened, vae.to(where), seen.sha256, Path(latents))
    for number, store in enumerate(opened):
        run.derive(folder_of(store, seen.sha256, Path(latents)) / "index.json", f"store_{number}", "vision")
    held_out_sources, held_out_latents = _with_latents(opened, "validation", encoded)
    kept = spread_within(held_out_sources, held_out_latents)
    held_out = replay_of(held_out_sources[kept], where, held_out_latents[kept])
    train_sources, train_latents = _with_latents(opened, "train", encoded)
    draw = torch.Generator(where).manual_seed(seed)
    shown = ("train/nll", "train/reward_error", "validation/loss")
    with closing(open_replay(train_sources, where, train_latents, replay_budget, seed)) as train:
        begun = train.windows(starts, context, draw)
        memory.facts = {
            "environment": opened[0].environment,
            "vision": str(vision),
            "vision_sha256": seen.sha256,
            "contexts": contexts_as_plain(begun._replace(observation=begun.observation.narrowed(memory.latent_noise))),
        }
        data = ReplayData(
            lambda generator: train.windows(batch_size, window, generator, overhang, through),
            lambda generator: held_out.windows(batch_size, window, generator, overhang, through),
            per_epoch,
            4,
            seed,
            where,
        )
        path, _ = fit(
            memory,
            data,
            run,
            epochs,
            epochs * per_epoch,
            where,
            "M",
            shown,
            monitor="validation/loss",
            clip_value=clip_value,
            callbacks=[MixtureInUse(run, seed)],
        )
    best, _ = Memory.load(path)
    with torch.no_grad():
        lightning.seed_everything(seed, verbose=False)
        generator = torch.Generator(where).manual_seed(seed)
        losses = best.to(where).loss(held_out.windows(batch_size, window, generator, overhang, through))
    scores = {name: float(value) for name, value in losses.items()}
    return StageResult(
        epochs * per_epoch * batch_size * window,
        "steps",
        f"{scores['nll']:.3f} nats per latent, reward error {scores['reward_error']:.2f}",
        {"checkpoint": path},
        scores,
    )


class MixtureInUse(Callback):
    """validation/mixtures_used, see `mixture.components_used`, a mean over the latent dimensions; W&B gets the mean
    weights as bars: of each dimension's heaviest component, of its second, and so on, since a component's number means
    something within its own dimension alone."""

    def __init__(self, run: Run, seed: int):
        self.run, self.seed = run, seed
        self.weights: list[torch.Tensor] = []  # f32 [Z, K], summed over a batch's valid steps
        self.steps = 0

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Window, *_: Any) -> None:
        # a generator of its own: what is only looked at must not change how training goes on
        z = sample(
            batch.observation.narrowed(module.latent_noise), torch.Generator(module.device).manual_seed(self.seed)
        )
        prediction, _ = module.network(z[:-1], batch.action, batch.first)
        self.weights.append(torch.softmax(prediction.next_z.logits[batch.valid], -1).sum(0))
        self.steps += int(batch.valid.sum())

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        weights = torch.stack(self.weights).sum(0) / self.steps
        self.weights, self.steps = [], 0
        module.log("validation/mixtures_used", mixture.components_used(weights).mean(), batch_size=1)
        ranked = weights.sort(-1, descending=True).values
        self.run.bars("validation/mixture_weights", ranked.mean(0), trainer.global_step - 1)


def encode_all(stores: Sequence[RolloutStore], vae: VAE, vision_sha256: str, root: Path) -> list[dict[str, np.ndarray]]:
    """The latents of every store by shard, encoded where the cache lacks them."""
    with Progress("encode", sum(store.frames for store in stores), "frames") as progress:
        return [encode_store(store, vae.encode, vision_sha256, root, progress.advance) for store in stores]


def _with_latents(
    stores: Sequence[RolloutStore], split: str, encoded: list[dict[str, np.ndarray]]
) -> tuple[list[Source], list[np.ndarray]]:
    """A split's sources, and the latents of each."""
    by_store = {id(store): latents for store, latents in zip(stores, encoded)}
    sources = sources_of(stores, split)
    return sources, [by_store[id(store)][entry.shard] for store, entry in sources]
