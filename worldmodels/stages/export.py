"""V, M and C as a few small files that travel together."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import torch

from .. import checkpoints
from ..errors import UserError
from ..worlds.dream_world import contexts_from_plain
from .driving import ACTORS, Models


def export_checkpoint(
    checkpoint: str | Path, folder: str | Path, starts: int, scores: str | Path | None = None
) -> list[Path]:
    """Write vision, memory and controller as .safetensors in half precision, each with its JSON; returns their paths.

    A C that was trained with a model; `starts` of M's contexts are kept, those with the road that M expects most of.
    Each JSON tells how its part was made, see `_story`. scores: a scores.json of `evaluate`, whose summary goes into
    controller.json. Raises UserError where C has no model.
    """
    if starts < 1:
        raise UserError(f"starts={starts} leaves no dream to begin; set 1 or more")
    read = checkpoints.read(checkpoint, *ACTORS)
    facts = read.facts
    if facts["memory"] is None or facts["random_memory"] is not None:
        raise UserError(f"{checkpoint} was trained without a model that has learned; pass a C of train_controller")
    models = Models(facts["vision"], facts["memory"], torch.device("cpu"))
    for part, found in (("vision", models.vision_checkpoint), ("memory", models.memory_checkpoint)):
        checkpoints.require_same(part, facts[f"{part}_sha256"], found, f"C {checkpoint}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    own = {**models.vision_checkpoint.facts, **_story(models.vision_checkpoint.path)}
    vision = checkpoints.export(models.vision_checkpoint, folder, "vision", own)

    own = dict(models.memory_checkpoint.facts) | {"contexts": _best_contexts(models, starts)}
    own |= {"vision": vision.name, "vision_sha256": checkpoints.sha256(vision)}
    own |= _story(models.memory_checkpoint.path)
    memory = checkpoints.export(models.memory_checkpoint, folder, "memory", own)

    own = {**facts, "vision": vision.name, "vision_sha256": checkpoints.sha256(vision), "memory": memory.name}
    own |= {"memory_sha256": checkpoints.sha256(memory), **_story(read.path)}
    if scores is not None:
        content = json.loads(Path(scores).read_text())
        if content["policy"]["controller"]["sha256"] != read.sha256:
            raise UserError(f"{scores} holds the scores of another controller than {checkpoint}")
        own |= {"scores": {"summary": content["summary"], "split": content["split"]}}
    return [vision, memory, checkpoints.export(read, folder, "controller", own)]


def _best_contexts(models: Models, count: int) -> dict[str, torch.Tensor]:
    plain: dict[str, torch.Tensor] = models.memory_checkpoint.facts["contexts"]
    window = contexts_from_plain(plain)
    with torch.no_grad():
        expected, _ = models.memory.network(window.observation.mean[:-1], window.action, window.first)
    best = expected.reward.sum(0).argsort(descending=True)[:count]
    return {name: value[:, best] for name, value in plain.items()}


def _story(path: Path) -> dict[str, Any]:
    """How a checkpoint was made, as its run's folder tells: the command, the time, the seed, versions, the settings
    but those that are paths, and of the best of a training its figures on held-out data. The command is None where the
    folder is gone."""
    if not path.with_name("lineage.json").is_file():
        return {"command": None}
    lineage = json.loads(path.with_name("lineage.json").read_text())
    settings = json.loads(path.with_name("config.json").read_text())
    story = {name: lineage[name] for name in ("command", "started", "seed", "versions")}
    paths = {name for name, value in settings.items() if isinstance(value, str | list) and "/" in str(value)}
    story["settings"] = {name: value for name, value in settings.items() if name not in paths | {"wandb", "runs"}}
    metrics = path.with_name("metrics.csv")
    if path.stem == "best" and metrics.is_file():
        with metrics.open() as file:
            looks = [row for row in csv.DictReader(file) if row.get("validation/loss")]
        best = min(looks, key=lambda row: float(row["validation/loss"]))
        story["validation"] = {
            name: float(best[name]) for name in best if name.startswith("validation/") and best[name]
        }
    return story
