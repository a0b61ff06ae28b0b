"""How wild must the dream be? One V and M, controllers trained at several temperatures, scored in both worlds.

Ha & Schmidhuber 2018, arXiv 1803.10122, section 4 and its table of temperatures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..checkpoints import sha256
from ..errors import UserError
from ..evaluation.statistics import summarize
from ..rollouts.files import write_json
from .dream_score import score_dream
from .evaluate import returns_in
from .pipeline import Made, diagnose, dreams_with_rivals, learn, score, score_random, world_model
from .resumable import Inputs, Pipeline
from .study import circumstances, differing, heading, recorded, refuse
from .variants import memory_figures, vision_figures


def sweep_temperature(settings: dict[str, Any]) -> Path:
    """Collect, V and M once, and both diagnosed; then each of `learners` at each of `temperatures`; returns the JSON in
    `results`.

    learners: for each name the settings `algo` and `policy`. A controller is scored over `dreams` dreams at the
    temperature that it learned at, and on held-out real episodes. Each one's scores are written as they come; run again
    with the same settings, it goes on where it stopped. Raises UserError where there is nothing to compare, and where
    that JSON holds the scores of other settings or of another M.
    """
    temperatures, learners = settings["temperatures"], settings["learners"]
    if not temperatures or not learners:
        raise UserError("nothing to compare; give temperatures=[0.5,1.0] and learners")
    if dreams_with_rivals(settings["controller"]):
        raise UserError(
            "temperatures are compared without rivals of M; set controller.doubt=0, controller.ensemble=false"
        )
    settings = {**settings, "world": "dream", "rounds": 1, "guard": {"rivals": 0, "repair": []}}
    path = Path(settings["results"]) / f"{settings['name']}.json"
    parts = ("env", "collect", "vision", "memory", "controller", "learners", "evaluation", "dreams", "seed")
    own = {part: settings[part] for part in parts}
    known = recorded(path, own)
    kept = {(one["learner"], one["temperature"]): one for one in known.get("controllers", [])}
    pipeline = Pipeline(settings["name"], settings)
    plan = {part: dict(settings[part]) for part in ("collect", "vision", "memory", "controller")}
    stores: list[Path] = []
    made = world_model(pipeline, plan, 0, Made(), stores)
    assert made.memory is not None, "it has just been made"
    content = heading(pipeline, f"python scripts/sweep_temperature.py preset={settings['name']}", own)
    content |= {"memory_sha256": sha256(made.memory), "diagnosis": settings["diagnosis"]}
    for part in ("memory_sha256", "diagnosis"):  # C's of several M's are no comparison
        refuse(path, differing(known.get(part, content[part]), content[part], part))
    vision, memory = diagnose(pipeline, made, stores)
    content |= {"vision": vision_figures(vision), "memory": memory_figures(memory)}
    content |= {"random": returns_in(score_random(pipeline).artefacts["scores"]), **circumstances()} | known
    path.parent.mkdir(parents=True, exist_ok=True)
    if kept:
        write_json(path, content)
    for name, learner in learners.items():
        for temperature in temperatures:
            if (name, temperature) in kept:
                continue
            kept[name, temperature] = found = _one(pipeline, made, name, learner, temperature)
            content["controllers"] = [kept[key] for key in sorted(kept)]
            write_json(path, content)
            dream, real = (summarize(found[where]) for where in ("dream", "real"))
            print(f"{name}, τ {temperature:g}: dream {dream}; real {real}", flush=True)
    return path


def _one(pipeline: Pipeline, made: Made, name: str, learner: dict[str, Any], temperature: float) -> dict[str, Any]:
    settings = pipeline.settings
    label = f", {name}, τ {temperature:g}"
    before = len(pipeline.rows)
    learning = {**settings["controller"], **learner, "temperature": temperature}
    made = learn(pipeline, made, learning, None, label)
    seconds = pipeline.rows[before].seconds
    dreaming = {"dreams": settings["dreams"], "horizon": settings["controller"]["horizon"], "temperature": temperature}
    seeded = {"seed": settings["seed"], "device": settings["device"]}
    inputs: Inputs = {"checkpoint": made.controller, "memory": made.memory}
    dreamt = pipeline.stage(f"dream of C{label}", score_dream, inputs, **dreaming, **seeded)
    scored = score(pipeline, made, label)
    return {
        "learner": name,
        "temperature": temperature,
        "dream": returns_in(dreamt.artefacts["scores"]),
        "real": returns_in(scored.artefacts["scores"]),
        "seconds": round(seconds, 1),
    }
