"""Variants of V, or of M, trained on the same episodes and diagnosed on the same held-out ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..rollouts.files import write_json
from .diagnosis import SHOWN, diagnose_memory, diagnose_vision
from .pipeline import gather, merged, train_memory, train_vision
from .resumable import Inputs, Pipeline, Row
from .study import circumstances, differing, heading, recorded, refuse

LOOKING = ("windows", "context", "horizon", "temperature")  # how M is looked at


class Diagnosed(NamedTuple):
    """What a variant has to show."""

    trained: Row
    diagnosis: Row
    figures: dict[str, Any]


Work = Callable[[dict[str, Any], str], Diagnosed]  # by the settings and the name of a variant


def compare_visions(settings: dict[str, Any]) -> Path:
    """Collect once, then V for each of `variants`, diagnosed over `frames` held-out frames; returns the JSON.

    See `_compare`, and `diagnose_vision` for the figures; the KL of the latent dimensions is sorted, the highest first.
    """
    return _compare(settings, "compare_visions", "vision", ("env", "collect", "vision", "frames", "seed"), _visions)


def compare_memories(settings: dict[str, Any]) -> Path:
    """Collect and V once, then M for each of `variants`, diagnosed over `windows` held-out windows; returns the JSON.

    See `_compare`, and `diagnose_memory` for the figures; errors of M left alone are those after `steps` steps.
    The seconds of the first M are also those of V's look at all frames.
    """
    parts = ("env", "collect", "vision", "memory", *LOOKING, "seed")
    return _compare(settings, "compare_memories", "memory", parts, _memories)


def _visions(pipeline: Pipeline) -> Work:
    settings = pipeline.settings
    stores = [gather(pipeline, "collect", settings["collect"])]

    def work(section: dict[str, Any], name: str) -> Diagnosed:
        trained = train_vision(pipeline, f"V, {name}", section, stores)
        inputs: Inputs = {"stores": [*stores], "vision": Path(trained.artefacts["checkpoint"])}
        looking = {key: settings[key] for key in ("frames", "seed", "device")}
        row = pipeline.stage(f"diagnosis of V, {name}", diagnose_vision, inputs, **looking)
        return Diagnosed(trained, row, vision_figures(row))

    return work


def _memories(pipeline: Pipeline) -> Work:
    settings = pipeline.settings
    stores = [gather(pipeline, "collect", settings["collect"])]
    vision = Path(train_vision(pipeline, "V", settings["vision"], stores).artefacts["checkpoint"])

    def work(section: dict[str, Any], name: str) -> Diagnosed:
        trained = train_memory(pipeline, f"M, {name}", section, stores, vision)
        inputs: Inputs = {"stores": [*stores], "vision": vision, "memory": Path(trained.artefacts["checkpoint"])}
        looking = {key: settings[key] for key in (*LOOKING, "seed", "device")}
        row = pipeline.stage(f"diagnosis of M, {name}", diagnose_memory, inputs, **looking)
        return Diagnosed(trained, row, memory_figures(row))

    return work


def vision_figures(row: Row) -> dict[str, Any]:
    """What a diagnosis of V has to show; the KL of its dimensions with the highest first."""
    figures = json.loads(Path(row.artefacts["diagnosis"]).read_text())
    figures["kl_per_dimension"].sort(reverse=True)
    del figures["variance"]  # not in that order
    return figures


def memory_figures(row: Row) -> dict[str, Any]:
    """What a diagnosis of M has to show; of its errors when left alone those after `steps` steps."""
    found = json.loads(Path(row.artefacts["diagnosis"]).read_text())
    alone = found["left_alone"]
    steps = [step for step in SHOWN if step <= len(alone["windows"])]
    return {
        "parameters": found["parameters"],
        **found["one_step_ahead"],
        "steps": steps,
        "left_alone": {error: [values[step - 1] for step in steps] for error, values in alone.items()},
        # of all that had not ended before, step by step: really, and by M's chances
        "ends": {name: alone[name] for name in ("ended", "end_chance")},
    }


def _compare(
    settings: dict[str, Any], script: str, part: str, parts: tuple[str, ...], begin: Callable[[Pipeline], Work]
) -> Path:
    """What `begin` makes of a pipeline, for each of `variants`; returns the JSON in `results`.

    variants: for each name the changes in the section `part`. Figures are written as they come, those of variants that
    are no longer named are kept; run again with the same settings, it goes on where it stopped. parts: the settings
    that decide the figures. Raises UserError where there is nothing to compare, where a variant changes what the
    section does not have, and where that JSON holds the figures of other settings.
    """
    variants = {name: changes or {} for name, changes in (settings["variants"] or {}).items()}
    if not variants:
        raise UserError(f"nothing to compare; give +variants.NAME={{KEY: VALUE}} with keys of the section {part}")
    sections = {name: merged(settings[part], changes, f"variants.{name}") for name, changes in variants.items()}
    path = Path(settings["results"]) / f"{settings['name']}.json"
    own = {name: settings[name] for name in parts}
    kept: dict[str, Any] = recorded(path, own).get("variants", {})
    for name in kept.keys() & variants.keys():
        refuse(path, differing(kept[name]["changes"], variants[name], f"variants.{name}"))
    missing = [name for name in variants if name not in kept]
    print(f"{settings['name']}: {len(missing)} of {len(variants)} variants to train", flush=True)
    if not missing:
        return path
    pipeline = Pipeline(settings["name"], settings)
    work = begin(pipeline)
    content = heading(pipeline, f"python scripts/{script}.py name={settings['name']}", own)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in missing:
        found = work(sections[name], name)
        kept[name] = {
            "changes": variants[name],
            **found.figures,
            "seconds": round(found.trained.seconds, 1),
            "samples_per_second": round(found.trained.samples / found.trained.seconds, 1),
            **circumstances(),
        }
        content["variants"] = {each: kept[each] for each in (*variants, *kept) if each in kept}
        write_json(path, content)
        print(f"{name}: {found.diagnosis.metric}", flush=True)
    return path
