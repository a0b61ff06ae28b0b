"""The pages README.md and docs/results.md and their pictures, rebuilt from the raw scores in results/."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoints import sha256
from ..errors import UserError
from ..evaluation import plots
from ..evaluation.plots import (
    learning_curves,
    memories_plot,
    rounds_plot,
    scores_plot,
    temperature_plot,
    visions_plot,
    worlds_plot,
)
from ..rollouts.files import write_json
from .tables import (
    comparisons,
    ends,
    gaps,
    memories,
    model_free,
    rounds,
    scores,
    studies,
    temperatures,
    visions,
    what_c_sees,
    world_models,
    worlds,
)

PAGES = ("README.md", "docs/results.md")
MEDIA = "docs/media"
DRAWN = f"{MEDIA}/drawn.json"  # what each picture was drawn from, see `Picture.drawn`


def curves(root: Path) -> str:
    """Links to the learning curves of each task."""
    return "\n\n".join(
        f"![{task}: training return against environment steps]({Path(MEDIA).name}/{picture_of(task)})"
        for task in studies(root)
    )


BLOCKS: dict[str, Callable[[Path], str]] = {
    "model_free": model_free,
    "world_models": world_models,
    "what_c_sees": what_c_sees,
    "rounds": rounds,
    "temperatures": temperatures,
    "ends": ends,
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


class Picture(NamedTuple):
    plot: Callable[..., None]  # by the path and the content
    content: tuple[Any, ...]

    def drawn(self, path: Path) -> dict[str, str]:
        """Hashes of what is shown and how, and of the file, so that a stale picture is found without drawing it."""
        shown = json.dumps([self.plot.__name__, Path(plots.__file__).read_text(), *self.content])
        file = sha256(path) if path.exists() else "missing"
        return {"shown": hashlib.sha256(shown.encode()).hexdigest(), "file": file}


def pictures(root: Path) -> dict[str, Picture]:
    """Every picture of MEDIA that results/ is drawn in, by its file's name."""
    found = {}
    for task, own in studies(root).items():
        each = {study["title"]: [seed["curve"] for seed in study["seeds"].values()] for study in own}
        named = {title: lines for title, lines in each.items() if all(len(line) > 1 for line in lines)}
        targets = {study["target"] for study in own}
        target = targets.pop() if len(targets) == 1 else None
        found[picture_of(task)] = Picture(learning_curves, (task, named, target))
    if scored := scores(root):
        title = "CarRacing-v3, mean actions on test tracks (dots) and validation tracks (lines)"
        found["scores_carracing.png"] = Picture(scores_plot, (title, scored))
    if looked_at := gaps(root):
        found["rounds.png"] = Picture(rounds_plot, (looked_at,))
    for folder, plot in PLOTS.items():
        for comparison in comparisons(root, folder):
            found[f"{folder}_{comparison['name']}.png"] = Picture(plot, (comparison,))
    return found


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
    drawn = {}
    for name, picture in pictures(root).items():
        path = root / MEDIA / name
        picture.plot(path, *picture.content)
        drawn[name] = picture.drawn(path)
        written.append(path)
    write_json(root / DRAWN, drawn)
    return [*written, root / DRAWN]
