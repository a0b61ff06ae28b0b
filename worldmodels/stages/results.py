"""Tables and pictures of README and docs, rebuilt from the raw scores in results/."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..evaluation.plots import learning_curves, memories_plot, temperature_plot, visions_plot, worlds_plot
from ..evaluation.statistics import Correlation, summarize

PAGES = ("README.md", "docs/results.md")
MEDIA = "docs/media"
WITHOUT_MEMORY = ("CarRacing-v3, what C sees", "CarRacing-v3 with black frames, what C sees")
TASKS = (
    "CartPole-v1",
    "LunarLander-v3",
    "LunarLander-v3, continuous",
    "Pendulum-v1",
    "Pong",
    "CarRacing-v3",
    *WITHOUT_MEMORY,
)


def studies(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Every study in results/studies by its task, tasks in the order of TASKS."""
    found: dict[str, list[dict[str, Any]]] = {task: [] for task in TASKS}
    for path in sorted((root / "results" / "studies").glob("*.json")):
        study = json.loads(path.read_text())
        if study["task"] not in found:
            raise UserError(f"{path} has the unknown task {study['task']!r}; known are {', '.join(TASKS)}")
        found[study["task"]].append(study)
    return {task: own for task, own in found.items() if own}


def is_model_free(study: dict[str, Any]) -> bool:
    return not study["settings"].get("rounds")


def model_free(root: Path) -> str:
    """One line for each model-free study: the mean of each seed's evaluation, and what they come to."""
    columns = ("task", "algorithm", "env steps", "mean of each seed", "mean ± sd of seeds", "95 % of the mean")
    rows = []
    for task, own in studies(root).items():
        for study in filter(is_model_free, own):
            seeds, means = _seeds(study)
            found = summarize(means)
            steps = max(seed["env_steps"] for seed in seeds)
            interval = f"{found.low:.0f} to {found.high:.0f}" if len(means) > 1 else "one seed"
            spread = f"{found.mean:.1f} ± {found.sd:.1f}"
            rows.append((task, study["title"], f"{steps:,}", _each(means), spread, interval, *_target(study)))
    return _table((*columns, "target", "minutes a seed"), rows)


# what others have reported on CarRacing over 100 random tracks: who, real frames, mean ± sd
PUBLISHED = (
    ("Ha & Schmidhuber 2018 (arXiv 1803.10122): full world model, CMA-ES", "1.7 billion", "906 ± 21"),
    ("the same, V alone", "", "632 ± 251"),
    ("the same, V alone, C with a hidden layer", "", "788 ± 141"),
    ("best public PyTorch reproduction", "", "860 ± 120"),
    ("A3C, continuous actions (as the paper cites it)", "", "591 ± 45"),
    ("A3C, discrete actions (as the paper cites it)", "", "652 ± 10"),
)


def world_models(root: Path) -> str:
    """One line for each study of CarRacing, world models first, and what has been published."""
    own = sorted(studies(root).get("CarRacing-v3", []), key=is_model_free)
    rows = [_scored(study) for study in own]
    rows += [(who, frames, "", score, "", "", "") for who, frames, score in PUBLISHED]
    return _table(("CarRacing-v3, stock", *SCORED), rows)


def what_c_sees(root: Path) -> str:
    """A table for each task of WITHOUT_MEMORY: the same C with and without M."""
    found = studies(root)
    return "\n\n".join(
        _table((task, *SCORED), [_scored(study) for study in found[task]]) for task in WITHOUT_MEMORY if task in found
    )


SCORED = (
    "real frames",
    "mean of each seed",
    "mean ± sd of seeds",
    "interquartile mean, 95 %",
    "target",
    "minutes a seed",
)


def _scored(study: dict[str, Any]) -> tuple[str, ...]:
    seeds, means = _seeds(study)
    found = summarize(means)
    frames = max(seed["env_steps"] for seed in seeds)
    interval = f"{found.iqm:.0f} ({found.iqm_low:.0f} to {found.iqm_high:.0f})" if len(means) > 1 else "one seed"
    over_tracks = np.std([value for seed in seeds for value in seed["returns"]], ddof=1)
    alone = f"{found.mean:.0f} (its tracks ± {over_tracks:.0f})"
    spread = f"{found.mean:.0f} ± {found.sd:.0f}" if len(means) > 1 else alone
    return study["title"], f"{frames:,}", _each(means), spread, interval, *_target(study)


# the paper's TakeCover: C by CMA-ES in the dream of that temperature, 100 episodes in it and for real; None: random
PUBLISHED_TEMPERATURES = {
    0.1: ("2086 ± 140", "193 ± 58"),
    0.5: ("2060 ± 277", "196 ± 50"),
    1.0: ("1145 ± 690", "868 ± 511"),
    1.15: ("918 ± 546", "1092 ± 556"),
    1.3: ("732 ± 269", "753 ± 139"),
    None: ("", "210 ± 108"),
}


def comparisons(root: Path, folder: str) -> list[dict[str, Any]]:
    """All of results/`folder`, one of PLOTS."""
    return [json.loads(path.read_text()) for path in sorted((root / "results" / folder).glob("*.json"))]


def temperatures(root: Path) -> str:
    """A table for each sweep: what C earns in its dream and for real, mean ± sd over episodes."""
    tables = []
    for sweep in comparisons(root, "temperatures"):
        found = {(one["learner"], one["temperature"]): one for one in sweep["controllers"]}
        learners = list(dict.fromkeys(name for name, _ in found))
        published = PUBLISHED_TEMPERATURES if "TakeCover" in sweep["task"] else {}
        columns = [f"{sweep['task']}, τ", *(f"{name}, {where}" for name in learners for where in ("dream", "real"))]
        rows = []
        for temperature in sorted({temperature for _, temperature in found}):
            cells = [
                _spread(found[name, temperature][where]) if (name, temperature) in found else ""
                for name in learners
                for where in ("dream", "real")
            ]
            rows.append((f"{temperature:g}", *cells, *(published.get(temperature, ("", "")) if published else ())))
        paper = published[None] if published else ()
        rows.append(("random play", *("", _spread(sweep["random"])) * len(learners), *paper))
        tables.append(_table((*columns, *(("paper, dream", "paper, real") if published else ())), rows))
    return "\n\n".join(tables)


def worlds(root: Path) -> str:
    """A line for each comparison of dream and world: how far the controllers differ, and whether the dream knows it."""
    rows = []
    for comparison in comparisons(root, "worlds"):
        spans = []
        for where in ("dream", "real"):
            means = [np.mean(one[where]) for one in comparison["controllers"]]
            spans.append(f"{min(means):.0f} to {max(means):.0f}")
        found = Correlation(**comparison["rank_correlation"])
        rows.append((comparison["task"], comparison["name"], str(len(comparison["controllers"])), *spans, str(found)))
    columns = ("task", "V and M of preset", "controllers", "dream return", "real return", "rank correlation")
    return _table(columns, rows)


def visions(root: Path) -> str:
    """A table for each comparison of V's, over held-out frames."""
    columns = ("parameters", "mean squared error", "KL in nats", "active units", "minutes")
    tables = []
    for comparison in comparisons(root, "visions"):
        rows = [
            (
                name,
                f"{found['parameters']:,}",
                f"{found['mse']:.5f}",
                f"{found['kl']:.1f}",
                f"{found['active_units']} of {found['latent_dim']}",
                f"{found['seconds'] / 60:.1f}",
            )
            for name, found in comparison["variants"].items()
        ]
        tables.append(_table((f"{comparison['task']}, V", *columns), rows))
    return "\n\n".join(tables)


def memories(root: Path) -> str:
    """A table for each comparison of M's, over held-out windows; the last line is what needs no M."""
    tables = []
    for comparison in comparisons(root, "memories"):
        variants = comparison["variants"]
        some = next(iter(variants.values()))
        after = f"after {', '.join(map(str, some['steps']))} steps"
        columns = ("parameters", "nats per latent", "one Gaussian", "inside 50 %, 90 %")
        rows = [
            (
                name,
                f"{found['parameters']:,}",
                f"{found['nll']['mixture']:.3f}",
                f"{found['nll']['one_gaussian']:.3f}",
                ", ".join(f"{100 * share:.1f}" for share in found["calibration"]["coverage"]),
                _in_turn(found["left_alone"]["reward_error"], 2),
                _in_turn(found["left_alone"]["pixel_error"], 4),
            )
            for name, found in variants.items()
        ]
        alone = some["left_alone"]
        guesses = (_in_turn(alone["reward_variance"], 2), _in_turn(alone["pixel_error_of_last_frame"], 4))
        rows.append(("as before; rewards: their mean", "", f"{some['nll']['as_before']:.3f}", "", "", *guesses))
        errors = (f"reward error {after}", f"pixel error {after}")
        tables.append(_table((f"{comparison['task']}, M", *columns, *errors), rows))
    return "\n\n".join(tables)


def _in_turn(values: list[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.0f} ± {np.std(values, ddof=1):.0f}"


def _seeds(study: dict[str, Any]) -> tuple[list[dict[str, Any]], list[float]]:
    """What each seed has to show, and the means of their evaluations."""
    seeds = list(study["seeds"].values())
    return seeds, [float(np.mean(seed["returns"])) for seed in seeds]


def _each(means: list[float]) -> str:
    return ", ".join(f"{mean:.0f}" if abs(mean) >= 100 else f"{mean:.1f}" for mean in means)


def _target(study: dict[str, Any]) -> tuple[str, str]:
    """The target and whether it was missed; the minutes that a seed took."""
    seeds, means = _seeds(study)
    target = "report" if study["target"] is None else f"≥ {study['target']:g}"
    reached = min(means) if study["every_seed"] else np.mean(means)
    if study["target"] is not None and reached < study["target"]:
        target += ", missed"
    return target, f"{np.mean([seed['seconds'] for seed in seeds]) / 60:.1f}"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def curves(root: Path) -> str:
    """A picture for each task, and the links to them."""
    return "\n\n".join(
        f"![{task}: training return against environment steps]({Path(MEDIA).name}/{picture_of(task)})"
        for task in studies(root)
    )


BLOCKS: dict[str, Callable[[Path], str]] = {
    "model_free": model_free,
    "world_models": world_models,
    "what_c_sees": what_c_sees,
    "temperatures": temperatures,
    "worlds": worlds,
    "visions": visions,
    "memories": memories,
    "curves": curves,
}


# of the folders of results/ whose files have a picture each
PLOTS: dict[str, Callable[[Path, Any], None]] = {
    "temperatures": temperature_plot,
    "worlds": worlds_plot,
    "visions": visions_plot,
    "memories": memories_plot,
}


def picture_of(task: str) -> str:
    return "curves_" + re.sub(r"\W+", "_", task).lower().strip("_") + ".png"


def rewritten(page: str, root: Path) -> str:
    """The page with what stands between `<!-- results: NAME -->` and `<!-- end -->` made anew."""

    def block(match: re.Match[str]) -> str:
        name = match[1]
        if name not in BLOCKS:
            raise UserError(f"unknown block {name!r} in a page; there are {', '.join(BLOCKS)}")
        return f"<!-- results: {name} -->\n{BLOCKS[name](root)}\n<!-- end -->"

    return re.sub(r"<!-- results: (\w+) -->\n.*?<!-- end -->", block, page, flags=re.DOTALL)


def rebuild(root: Path) -> list[Path]:
    """Write all pages and pictures; returns their paths."""
    written = []
    for name in PAGES:
        path = root / name
        path.write_text(rewritten(path.read_text(), root))
        written.append(path)
    for task, own in studies(root).items():
        path = root / MEDIA / picture_of(task)
        curves = {study["title"]: [seed["curve"] for seed in study["seeds"].values()] for study in own}
        named = {title: each for title, each in curves.items() if all(len(curve) > 1 for curve in each)}
        targets = {study["target"] for study in own}
        learning_curves(path, task, named, targets.pop() if len(targets) == 1 else None)
        written.append(path)
    for folder, plot in PLOTS.items():
        for comparison in comparisons(root, folder):
            path = root / MEDIA / f"{folder}_{comparison['name']}.png"
            plot(path, comparison)
            written.append(path)
    return written
