"""Tables and pictures of README and docs, rebuilt from the raw scores in results/."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..evaluation.plots import learning_curves
from ..evaluation.statistics import summarize

PAGES = ("README.md", "docs/results.md")
MEDIA = "docs/media"
TASKS = ("CartPole-v1", "LunarLander-v3", "LunarLander-v3, continuous", "Pendulum-v1", "Pong", "CarRacing-v3")


def studies(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Every study in results/studies by its task, tasks in the order of TASKS."""
    found: dict[str, list[dict[str, Any]]] = {task: [] for task in TASKS}
    for path in sorted((root / "results" / "studies").glob("*.json")):
        study = json.loads(path.read_text())
        if study["task"] not in found:
            raise UserError(f"{path} has the unknown task {study['task']!r}; known are {', '.join(TASKS)}")
        found[study["task"]].append(study)
    return {task: own for task, own in found.items() if own}


def model_free(root: Path) -> str:
    """One line for each study: the mean of each seed's evaluation, and what they come to."""
    columns = (
        "task",
        "algorithm",
        "env steps",
        "mean of each seed",
        "mean ± sd of seeds",
        "95 % of the mean",
        "target",
    )
    lines = [f"| {' | '.join(columns)} | minutes a seed |", "|---" * (len(columns) + 1) + "|"]
    for task, own in studies(root).items():
        for study in own:
            seeds = list(study["seeds"].values())
            means = [float(np.mean(seed["returns"])) for seed in seeds]
            found = summarize(means)
            steps = max(seed["env_steps"] for seed in seeds)
            minutes = np.mean([seed["seconds"] for seed in seeds]) / 60
            target = "report" if study["target"] is None else f"≥ {study['target']:g}"
            if study["target"] is not None and (min(means) if study["every_seed"] else found.mean) < study["target"]:
                target += ", missed"
            each = ", ".join(f"{mean:.0f}" if abs(mean) >= 100 else f"{mean:.1f}" for mean in means)
            interval = f"{found.low:.0f} to {found.high:.0f}" if len(means) > 1 else "one seed"
            lines.append(
                f"| {task} | {study['title']} | {steps:,} | {each} | {found.mean:.1f} ± {found.sd:.1f} | {interval} "
                f"| {target} | {minutes:.1f} |"
            )
    return "\n".join(lines)


def curves(root: Path) -> str:
    """A picture for each task, and the links to them."""
    return "\n\n".join(
        f"![{task}: training return against environment steps]({Path(MEDIA).name}/{picture_of(task)})"
        for task in studies(root)
    )


BLOCKS: dict[str, Callable[[Path], str]] = {"model_free": model_free, "curves": curves}


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
        named = {study["title"]: [seed["curve"] for seed in study["seeds"].values()] for study in own}
        targets = {study["target"] for study in own}
        learning_curves(path, task, named, targets.pop() if len(targets) == 1 else None)
        written.append(path)
    return written
