"""V, M and C as a few small files that travel together."""

from __future__ import annotations

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
    scores: a scores.json of `evaluate`, whose summary goes into controller.json with the commands that made it all.
    Raises UserError where C has no model.
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

    own = {**models.vision_checkpoint.facts, "command": _command(models.vision_checkpoint.path)}
    vision = checkpoints.export(models.vision_checkpoint, folder, "vision", own)

    own = dict(models.memory_checkpoint.facts) | {"contexts": _best_contexts(models, starts)}
    own |= {"vision": vision.name, "vision_sha256": checkpoints.sha256(vision)}
    own |= {"command": _command(models.memory_checkpoint.path)}
    memory = checkpoints.export(models.memory_checkpoint, folder, "memory", own)

    own = {**facts, "vision": vision.name, "vision_sha256": checkpoints.sha256(vision), "memory": memory.name}
    own |= {"memory_sha256": checkpoints.sha256(memory), "command": _command(read.path)}
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


def _command(path: Path) -> Any:
    """The command that made a checkpoint, as its run's folder tells; None where the folder is gone."""
    lineage = path.with_name("lineage.json")
    return json.loads(lineage.read_text())["command"] if lineage.is_file() else None
