"""Plots by matplotlib, without a display."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .statistics import Correlation, ended_by, interquartile_mean, summarize

POINTS = 100
RESAMPLES = 1000


def canvas() -> Any:
    """pyplot that writes files."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def _write(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
    canvas().close(figure)


def on_one_axis(curves: Sequence[Sequence[Sequence[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Curves of (x, y), one for each seed, at the same places: x [P] within all of them, y [N, P]."""
    parts = [np.asarray(curve, dtype=np.float64) for curve in curves]
    x = np.linspace(max(part[0, 0] for part in parts), min(part[-1, 0] for part in parts), POINTS)
    return x, np.stack([np.interp(x, part[:, 0], part[:, 1]) for part in parts])


def band(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interquartile mean over the seeds of [N, P], and its 95 % bootstrap interval at each place."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    means = interquartile_mean(values[drawn], axis=1)
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return interquartile_mean(values, axis=0), low, high


def learning_curves(path: Path, title: str, algorithms: Mapping[str, Sequence[Any]], target: float | None) -> None:
    """Training return against env_step, for each algorithm the interquartile mean of its seeds and a 95 % band."""
    pyplot = canvas()
    figure, axes = pyplot.subplots(figsize=(7.5, 4.2), layout="constrained")
    for name, curves in algorithms.items():
        x, y = on_one_axis(curves)
        middle, low, high = band(y)
        (line,) = axes.plot(x, middle, label=f"{name}, {len(curves)} seed{'s' if len(curves) > 1 else ''}")
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2)
    if target is not None:
        axes.axhline(target, color="0.4", ls=":", lw=1, label=f"target {target:g}")
    axes.set(title=title, xlabel="env_step (simulator frames)", ylabel="return while training", xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _write(figure, path)


def scores_plot(path: Path, title: str, studies: Mapping[str, Any]) -> None:
    """Returns of mean actions against the real frames that they took: a dot for each seed on test tracks, and for C's
    of the dream a line for each on validation tracks, round by round."""
    pyplot = canvas()
    figure, axes = pyplot.subplots(figsize=(10, 4.6), layout="constrained")
    by_score = sorted(studies.items(), key=lambda item: -np.mean([score for _, score in item[1]["tests"]]))
    for (name, found), color, marker in zip(
        by_score, itertools.cycle(pyplot.cm.tab10.colors), itertools.cycle("osD^vPX")
    ):
        x, y = np.array(found["tests"]).T
        label = f"{name}: {y.mean():.0f}"
        axes.plot(x, y, ls="", marker=marker, ms=5, color=color, label=label)
        for line in found["validations"]:
            axes.plot(*np.array(line).T, color=color, lw=0.8, alpha=0.6)
    low, high = axes.get_xlim()
    axes.set(xlabel="real frames, all of them, in millions", ylabel="return", xscale="log")
    ticks = [million for million in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if low <= 1e6 * million <= high]
    axes.set_xticks([1e6 * million for million in ticks], [f"{million:g}" for million in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(title, fontsize=11)
    _write(figure, path)


def rounds_plot(path: Path, studies: Mapping[str, Mapping[str, Any]]) -> None:
    """What a step pays C after each round, in the dream and on validation tracks, and the difference; a line a seed."""
    pyplot = canvas()
    figure, (pays, gap) = pyplot.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    for color, (name, seeds) in zip(itertools.cycle(pyplot.cm.tab10.colors), studies.items()):
        for number, rounds in enumerate(seeds.values()):
            x = [one["number"] for one in rounds]
            dream, real = (np.array([one[f"{where}_reward"] for one in rounds]) for where in ("dream", "real"))
            label = None if number else name
            pays.plot(x, dream, color=color, lw=1, label=label and f"{label}: dream")
            pays.plot(x, real, color=color, lw=1, ls="--", label=label and "validation tracks")
            gap.plot(x, dream - real, color=color, lw=1, label=label)
    gap.axhline(0, color="0.3", ls=":", lw=1)
    pays.set(xlabel="round", ylabel="reward a step")
    gap.set(xlabel="round", ylabel="dream less real")
    for axes in (pays, gap):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    _write(figure, path)


def temperature_plot(path: Path, sweep: Mapping[str, Any]) -> None:
    """What controllers earn in the dreams of their temperatures, and for real: means with 95 % intervals; and when
    episodes end for M, see `_ends`, where it was diagnosed."""
    pyplot = canvas()
    learners = list(dict.fromkeys(one["learner"] for one in sweep["controllers"]))
    memory = sweep.get("memory")
    columns = len(learners) + bool(memory)
    figure, panels = pyplot.subplots(1, columns, figsize=(4.2 * columns, 3.6), squeeze=False, layout="constrained")
    for axes, name in zip(panels[0], learners):
        if axes is not panels[0][0]:
            axes.sharey(panels[0][0])
            axes.tick_params(labelleft=False)
        own = sorted(
            (one for one in sweep["controllers"] if one["learner"] == name), key=lambda one: one["temperature"]
        )
        for where in ("dream", "real"):
            found = [summarize(one[where]) for one in own]
            means = np.array([one.mean for one in found])
            error = np.array([(one.mean - one.low, one.high - one.mean) for one in found]).T
            axes.errorbar([one["temperature"] for one in own], means, error, marker="o", capsize=3, label=where)
        axes.axhline(np.mean(sweep["random"]), color="0.4", ls=":", lw=1, label="random play, real")
        axes.set(title=name, xlabel="temperature of the dream")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("return")
    panels[0][0].legend(fontsize=8)
    if memory:
        _ends(panels[0][-1], memory["ends"])
    _write(figure, path)


def visions_plot(path: Path, comparison: Mapping[str, Any]) -> None:
    """KL of each latent dimension, the highest first, a line for each variant of V."""
    pyplot = canvas()
    figure, axes = pyplot.subplots(figsize=(7.5, 4.2), layout="constrained")
    for name, found in comparison["variants"].items():
        kl = found["kl_per_dimension"]
        label = f"{name}: {found['active_units']} active, {found['kl']:.1f} nats"
        axes.plot(np.arange(1, len(kl) + 1), kl, marker=".", lw=1, label=label)
    axes.set(title=f"{comparison['task']}, V", xlabel="latent dimension, by KL", ylabel="KL in nats", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _write(figure, path)


def memories_plot(path: Path, comparison: Mapping[str, Any]) -> None:
    """Calibration of each variant of M, see `calibration_plot`; and its nats per latent beside simpler forecasts'."""
    pyplot = canvas()
    variants = comparison["variants"]
    figure, (density, nats) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for name, found in variants.items():
        histogram = found["calibration"]["histogram"]
        density.stairs(histogram, np.linspace(0, 1, len(histogram) + 1), lw=1.5, label=name)
    density.axhline(1, color="0.3", ls=":", lw=1, label="calibrated")
    density.set(xlabel="forecast probability of less", ylabel="density", xlim=(0, 1))
    rows = np.arange(len(variants))
    forecasts = {
        "mixture": ("M", "o", "tab:blue"),
        "one_gaussian": ("one Gaussian of its moments", "x", "tab:orange"),
        "as_before": ("as before, give or take", "|", "0.3"),
    }
    for forecast, (label, marker, color) in forecasts.items():
        values = [found["nll"][forecast] for found in variants.values()]
        nats.plot(values, rows, ls="", marker=marker, ms=8, color=color, label=label)
    nats.set_yticks(rows, list(variants))
    nats.set(xlabel="nats per latent dimension, one step ahead", ylim=(len(rows) - 0.5, -0.5))
    for axes in (density, nats):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(f"{comparison['task']}, M", fontsize=11)
    _write(figure, path)


def worlds_plot(path: Path, comparison: Mapping[str, Any]) -> None:
    """A point for each C: what it earns in the dream against what it earns for real, means with standard errors."""
    pyplot = canvas()
    figure, axes = pyplot.subplots(figsize=(5, 3.8), layout="constrained")
    both = [[np.array(one[where]) for one in comparison["controllers"]] for where in ("dream", "real")]
    (x, wide), (y, high) = (([v.mean() for v in own], [v.std() / len(v) ** 0.5 for v in own]) for own in both)
    axes.errorbar(x, y, high, wide, fmt="o", capsize=2)
    found = Correlation(**comparison["rank_correlation"])
    axes.set(xlabel=f"return of dreams of {comparison['horizon']} steps", ylabel="real return, validation tracks")
    axes.set_title(f"{len(x)} controllers, rank correlation {found}", fontsize=10)
    axes.grid(alpha=0.3)
    _write(figure, path)


def calibration_plot(path: Path, histogram: Sequence[float], coverage: Sequence[float]) -> None:
    """The density of a forecast's distribution function at what came: flat where the forecast is calibrated."""
    pyplot = canvas()
    figure, axes = pyplot.subplots(figsize=(5, 3.6), layout="constrained")
    width = 1 / len(histogram)
    axes.bar(np.arange(len(histogram)) * width, histogram, width * 0.94, align="edge", color="tab:blue")
    axes.axhline(1, color="0.3", ls=":", lw=1, label="calibrated")
    axes.set(xlabel="forecast probability of less", ylabel="density", xlim=(0, 1))
    axes.set_title(f"central 50 %: {100 * coverage[0]:.1f} % inside, 90 %: {100 * coverage[1]:.1f} %", fontsize=10)
    axes.legend(fontsize=8)
    _write(figure, path)


def horizon_plot(path: Path, errors: Mapping[str, Sequence[float]]) -> None:
    """Errors of M's open loop against the steps since it was left alone, each beside what a simpler guess gives."""
    pyplot = canvas()
    figure, (reward, total, pixels) = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    panels = (
        (reward, "reward", {"reward_error": "M", "reward_variance": "their mean"}),
        (total, "summed reward", {"return_error": "M", "return_variance": "their mean"}),
        (
            pixels,
            "pixels",
            {
                "pixel_error": "dream",
                "pixel_error_of_last_frame": "last real frame",
                "pixel_error_of_reconstruction": "V's reconstruction",
            },
        ),
    )
    for axes, title, lines in panels:
        for name, label in lines.items():
            axes.plot(np.arange(1, len(errors[name]) + 1), errors[name], label=label)
        axes.set(title=title, xlabel="steps of the dream", ylabel="mean squared error", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    _write(figure, path)


def outcomes_plot(path: Path, predicted: np.ndarray, real: np.ndarray, errors: Mapping[str, Sequence[float]]) -> None:
    """Rewards one step ahead, predicted against real [N]; and when episodes end, see `_ends`."""
    pyplot = canvas()
    figure, (reward, end) = pyplot.subplots(1, 2, figsize=(9.5, 3.9), layout="constrained")
    reward.plot(real, predicted, ls="", marker=".", ms=3, alpha=0.25)
    ends = [min(predicted.min(), real.min()), max(predicted.max(), real.max())]
    reward.plot(ends, ends, color="0.3", ls=":", lw=1, label="as it came")
    reward.set(title="reward, one step ahead", xlabel="real", ylabel="predicted by M")
    reward.grid(alpha=0.3)
    reward.legend(fontsize=8)
    _ends(end, errors)
    _write(figure, path)


def _ends(axes: Any, errors: Mapping[str, Sequence[float]]) -> None:
    """The share of episodes that have ended, as M's chances have it in the dream and as it really was, against the
    steps since M was left alone."""
    for name, label in (("end_chance", "M, left alone"), ("ended", "real")):
        shares = ended_by(errors[name])
        axes.plot(np.arange(1, len(shares) + 1), shares, label=label)
    axes.set(title="episodes that have ended", xlabel="steps of the dream", ylabel="share", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def error_strip(errors: Mapping[str, Sequence[float]], width: int, height: int = 220) -> np.ndarray:
    """Errors against the steps of a dream, the first one its start, as a picture u8 [height, width, 3]."""
    pyplot = canvas()
    figure, axes = pyplot.subplots(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
    for name, values in errors.items():
        axes.plot(values, label=name)
    axes.set(xlabel="steps of the dream", ylabel="mean squared error", ylim=(0, None), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # pyright: ignore[reportAttributeAccessIssue]
    pyplot.close(figure)
    return picture


def latent_kl_plot(path: Path, kl: np.ndarray, active: np.ndarray) -> None:
    """KL of each latent dimension, the highest first."""
    pyplot = canvas()
    order = np.argsort(-kl)
    figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    colors = np.where(active[order], "tab:blue", "0.7")
    axes.bar(np.arange(len(kl)), kl[order], color=colors.tolist())
    axes.set(xlabel="latent dimension, by KL", ylabel="KL in nats")
    axes.set_title(f"{active.sum()} of {len(kl)} dimensions active (blue), KL {kl.sum():.1f} nats", fontsize=10)
    _write(figure, path)
