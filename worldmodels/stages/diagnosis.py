"""How good V and M are, on held-out episodes: what their losses do not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from ..envs.make import versions
from ..errors import UserError
from ..evaluation.calibration import LEVELS, calibration, gaussian_nll, moments, probability_integral
from ..evaluation.pictures import grid, write_png
from ..evaluation.plots import calibration_plot, horizon_plot, latent_kl_plot, outcomes_plot
from ..memory import mixture
from ..rollouts.files import write_json
from ..rollouts.replay import Replay, replay_of
from ..rollouts.store import RolloutStore, open_stores, sources_of
from ..rollouts.streaming import spread_within
from ..tracking import Run, StageResult, pick_device
from ..types import Prediction, Window
from ..vision.vae import VAE, latent_use, sample
from .driving import Models

TRAVERSED, MOVES = 8, (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
SHOWN = (1, 10, 30, 100)  # steps of a dream whose errors are printed and kept as scores


@torch.no_grad()
def diagnose_vision(
    run: Run, stores: Sequence[str | Path], vision: str | Path, frames: int, seed: int, device: str = "auto"
) -> StageResult:
    """Active units and KL of each latent dimension, see `latent_use`, and squared error per pixel and channel, over
    `frames` held-out frames; diagnosis.json, latents.png and traversals.png in the run folder."""
    where = pick_device(device)
    vae, seen = VAE.load(vision)
    vae.to(where)
    opened = open_stores(stores)
    run.begin(seen.facts["environment"]["id"], _inputs(opened, vision=vision), versions())
    held_out = _held_out(opened, where)
    rows = torch.linspace(0, len(held_out) - 1, min(frames, len(held_out))).long().to(where)
    posteriors, errors = [], []
    for part in rows.split(256):
        frame: Any = held_out.at(part)
        posterior = vae.encode(frame)
        shown = vae.decode(posterior.mean)
        posteriors.append(posterior)
        errors.append(_pixel_error(shown, frame))
    kl, variance, active = latent_use(posteriors)
    found = {
        "frames": len(rows),
        "active_units": int(active.sum()),
        "latent_dim": vae.latent_dim,
        "kl": float(kl.sum()),
        "kl_tolerance": float(vae.hparams["kl_tolerance"]) * vae.latent_dim,
        "mse": float(torch.cat(errors).mean()),
        "parameters": sum(parameter.numel() for parameter in vae.parameters()),
    }
    write_json(run.folder / "diagnosis.json", {**found, "kl_per_dimension": kl.tolist(), "variance": variance.tolist()})
    middle = torch.cat([posterior.mean for posterior in posteriors])[len(rows) // 2]
    write_png(run.folder / "traversals.png", traversals(vae, middle, kl))
    latent_kl_plot(run.folder / "latents.png", kl.cpu().numpy(), active.cpu().numpy())
    return StageResult(
        len(rows),
        "frames",
        f"{found['active_units']} of {vae.latent_dim} units active, KL {found['kl']:.1f} nats, mse {found['mse']:.5f}",
        {
            "diagnosis": run.folder / "diagnosis.json",
            "picture": run.folder / "latents.png",
            "traversals": run.folder / "traversals.png",
        },
        {name: float(value) for name, value in found.items()},
    )


@torch.no_grad()
def traversals(vae: VAE, z: Tensor, kl: Tensor) -> np.ndarray:
    """The frame of z [Z] with one entry moved from −3 to 3: a row for each of the dimensions with the highest KL."""
    rows = []
    for index in kl.argsort(descending=True)[:TRAVERSED].tolist():
        moved = z.repeat(len(MOVES), 1)
        moved[:, index] = torch.tensor(MOVES, device=z.device)
        rows.append((f"z{index}, KL {kl[index]:.2f}, from -3 to 3", list(vae.decode(moved).cpu().numpy())))
    return grid(rows)


@torch.no_grad()
def diagnose_memory(
    run: Run,
    stores: Sequence[str | Path],
    vision: str | Path,
    memory: str | Path,
    windows: int,
    context: int,
    horizon: int,
    temperature: float,
    seed: int,
    device: str = "auto",
) -> StageResult:
    """M one step ahead and left alone, over `windows` held-out windows of `context` + `horizon` steps.

    Ends are looked at on windows of their own, of which the context alone must lie within the episode: of those that
    fit as a whole an end can only be the last step.

    One step ahead: calibration of the mixture, and nats per latent dimension beside z's own Gaussian, beside "as
    before, give or take" (a Gaussian around the last z, its deviation that of training steps), and beside the one
    Gaussian that has the mixture's moments. Left alone, with the real actions, after `context` real steps: squared
    error of rewards, and of the summed reward; of pixels, beside those of the last real frame and of V's
    reconstruction; of the chance that the episode has ended. diagnosis.json, calibration.png, horizon.png and
    outcomes.png (rewards and ends, predicted against real) in the run folder.
    """
    where = pick_device(device)
    models = Models(vision, memory, where)
    opened = open_stores(stores)
    run.begin(models.environment["id"], _inputs(opened, vision=vision, memory=memory), versions(), horizon=horizon)
    lightning.seed_everything(seed, verbose=False)
    generator = torch.Generator(where).manual_seed(seed)
    train = replay_of(_some(opened, "train"), where).windows(windows, context, generator)
    held_out = _held_out(opened, where)
    window = held_out.windows(windows, context + horizon, generator)
    ahead, (predicted, real) = one_step_ahead(models, window, train)
    alone = left_alone(models, window, context, temperature)
    if not alone:
        raise UserError(
            f"no held-out episode is longer than context={context} steps; set a lower one (in a pipeline, "
            "diagnosis.context)"
        )
    ending = held_out.windows(windows, context + horizon, generator, inside=context + 1)
    alone |= ends_left_alone(models, ending, context, temperature)
    calibration_plot(
        run.folder / "calibration.png", ahead["calibration"]["histogram"], ahead["calibration"]["coverage"]
    )
    horizon_plot(run.folder / "horizon.png", alone)
    outcomes_plot(run.folder / "outcomes.png", predicted, real, alone)
    parameters = sum(parameter.numel() for parameter in models.memory.parameters())
    found = {"parameters": parameters, "one_step_ahead": ahead, "left_alone": alone}
    write_json(run.folder / "diagnosis.json", found)
    scores = {"parameters": float(parameters), **{f"nll_{name}": value for name, value in ahead["nll"].items()}}
    scores |= {f"coverage_{level:g}": ahead["calibration"]["coverage"][n] for n, level in enumerate(LEVELS)}
    for name in ("reward_error", "pixel_error"):
        scores |= {f"{name}_{step}": alone[name][step - 1] for step in SHOWN if step <= len(alone[name])}
    fifty, ninety = ahead["calibration"]["coverage"]
    return StageResult(
        int(window.valid.sum()),
        "steps",
        f"{scores['nll_mixture']:.3f} nats per latent (one Gaussian {scores['nll_one_gaussian']:.3f}, as before "
        f"{scores['nll_as_before']:.3f}), coverage {fifty:.3f} of 0.5 and {ninety:.3f} of 0.9",
        {name: run.folder / f"{name}.{kind}" for name, kind in _FILES},
        scores,
    )


_FILES = (("diagnosis", "json"), ("calibration", "png"), ("horizon", "png"), ("outcomes", "png"))


def one_step_ahead(
    models: Models, window: Window, train: Window
) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    """Calibration of M's mixture over the valid steps of `window`, its nats beside simpler forecasts', and the share of
    the rewards' variance that M explains; and these rewards, predicted and real [N] each."""
    z, latents = _drawn(models, window.observation), _drawn(models, train.observation)
    prediction, _ = models.memory.network(z[:-1], window.action, window.first)
    valid, target = window.valid, z[1:]
    step = (latents[1:] - latents[:-1])[train.valid]
    spread, centre = latents[:-1][train.valid].std(0), latents[:-1][train.valid].mean(0)
    mean, deviation = moments(prediction.next_z)
    nll = {
        "mixture": -mixture.log_prob(prediction.next_z, target),
        "one_gaussian": gaussian_nll(target - mean, deviation),
        "as_before": gaussian_nll(target - z[:-1], step.square().mean(0).sqrt().expand_as(target)),
        "z_alone": gaussian_nll(target - centre, spread.expand_as(target)),
    }
    found = calibration(probability_integral(prediction.next_z, target)[valid].cpu().numpy())
    rewards = prediction.reward[valid].cpu().numpy(), window.reward[valid].cpu().numpy()
    return {
        "nll": {name: float(each[valid].mean()) for name, each in nll.items()},
        "calibration": found._asdict(),
        "reward_explained": explained(*rewards),
    }, rewards


def explained(predicted: np.ndarray, real: np.ndarray) -> float:
    """The share of the variance of `real` that `predicted` explains, R²; 0 where it never varies."""
    variance = float(np.var(real))
    return 1 - float(np.mean((predicted - real) ** 2)) / variance if variance > 0 else 0.0


def left_alone(models: Models, window: Window, context: int, temperature: float) -> dict[str, list[float]]:
    """Errors of M's open loop after each of the steps behind `context`: lists of one value a step.

    A window counts for as long as its real episode goes on, `windows`.
    """
    last = window.observation[context]
    predicted = real = torch.zeros_like(window.reward[0])
    rows: dict[str, list[float]] = {}
    for t, forecast, dreamt in _open_loop(models, window, context, temperature):
        valid, frame = window.valid[t], window.observation[t + 1]
        predicted, real = predicted + forecast.reward, real + window.reward[t]
        errors = {
            "reward_error": (forecast.reward - window.reward[t]).square(),
            "reward_variance": (window.reward[t] - window.reward[t][valid].mean()).square(),
            "return_error": (predicted - real).square(),
            "return_variance": (real - real[valid].mean()).square(),
            "pixel_error": _pixel_error(models.vision.decode(dreamt), frame),
            "pixel_error_of_last_frame": _pixel_error(last, frame),
            "pixel_error_of_reconstruction": _pixel_error(_seen_again(models, frame), frame),
        }
        for name, each in errors.items():
            rows.setdefault(name, []).append(float(each[valid].mean()))
        rows.setdefault("windows", []).append(float(valid.sum()))
    return rows


def ends_left_alone(models: Models, window: Window, context: int, temperature: float) -> dict[str, list[float]]:
    """After each of the steps behind `context`, over the episodes that had not ended before: `ended`, the share that
    ends; `end_chance`, the mean chance that M's open loop gives it; `ended_error`, the squared error of M's chance that
    it has ended by then.

    Unbiased where nothing but the context decided on the windows, see `Replay.windows` for `inside`.
    """
    surviving = torch.ones_like(window.reward[0])
    rows: dict[str, list[float]] = {"ended": [], "end_chance": [], "ended_error": []}
    for t, forecast, _ in _open_loop(models, window, context, temperature):
        valid, ended = window.valid[t], window.terminated[t].float()
        chance = torch.sigmoid(forecast.terminated_logit)
        surviving = surviving * (1 - chance)
        found = {"ended": ended, "end_chance": chance, "ended_error": (1 - surviving - ended).square()}
        for name, each in found.items():
            rows[name].append(float(each[valid].mean()))
    return rows


def _open_loop(
    models: Models, window: Window, context: int, temperature: float
) -> Iterator[tuple[int, Prediction, Tensor]]:
    """Each step t behind `context` at which a window is still valid: what M expects under the real action of step t,
    and z [B, Z] drawn from it, from which it goes on."""
    network = models.memory.network
    z = _drawn(models, window.observation[: context + 1])
    state = network.initial_state(z.shape[1])
    for t in range(context):
        state = network.step(z[t], window.action[t], window.first[t], state)
    dreamt, nowhere = z[context], torch.zeros_like(window.first[0])
    for t in range(context, len(window.reward)):
        state = network.step(dreamt, window.action[t], window.first[t] if t == 0 else nowhere, state)
        forecast: Prediction = network.predict(state.h)
        dreamt = mixture.sample(forecast.next_z, temperature)
        if not window.valid[t].any():
            return
        yield t, forecast, dreamt


def _held_out(stores: Sequence[RolloutStore], device: torch.device) -> Replay:
    return replay_of(_some(stores, "validation"), device)


def _some(stores: Sequence[RolloutStore], split: str) -> Any:
    """As many episodes of a split as fit in memory, spread over it."""
    sources = sources_of(stores, split)
    return sources[spread_within(sources)]


def _inputs(stores: Sequence[RolloutStore], **checkpoints: str | Path) -> dict[str, Path]:
    found = {f"store_{number}": store.folder / "manifest.json" for number, store in enumerate(stores)}
    return found | {name: Path(path) for name, path in checkpoints.items()}


def _drawn(models: Models, frames: Tensor) -> Tensor:
    """z f32 [T, B, Z] of frames u8 [T, B, H, W, C], drawn from V's posterior as M knows it."""
    share = models.memory.latent_noise
    return torch.stack([sample(models.vision.encode(row).narrowed(share)) for row in frames])


def _seen_again(models: Models, frame: Tensor) -> Tensor:
    return models.vision.decode(models.vision.encode(frame).mean)


def _pixel_error(shown: Tensor, frame: Tensor) -> Tensor:
    """Mean squared error f32 [B] of u8 [B, H, W, C], in units of the whole range."""
    return ((shown.float() - frame.to(shown.device).float()) / 255).square().mean((1, 2, 3))
