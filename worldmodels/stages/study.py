"""A study: one algorithm on one task with several seeds, its raw scores kept for the tables and pictures."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import re
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..envs.make import processor, versions
from ..envs.workers import default_workers
from ..errors import UserError
from ..evaluation.statistics import summarize
from ..rollouts.files import write_json
from ..tracking import Run
from .controller import train_baseline
from .evaluate import evaluate, returns_in
from .pipeline import play_rounds, score
from .resumable import LATER, Pipeline

POINTS = 200  # kept of a learning curve
PARTS = ("env", "algo", "policy", "evaluation")  # the settings that decide a study's numbers
# and those of a world model
PIPELINE_PARTS = (
    "collect",
    "vision",
    "memory",
    "controller",
    "rounds",
    "world",
    "validation",
    "guard",
    "again",
    "last",
)
LATER_ROUNDS = ("again", "last")  # of them, what only decides from the second round on


def run_study(settings: dict[str, Any]) -> Path:
    """Train and score on held-out episodes, once for each of `seeds`; returns the JSON in `results`.

    `rounds` of a world model's pipeline, or model-free where that is 0. `workers` seeds run side by side, each in a
    process, of a world model with its share of the cores. Each seed's scores are written as they come, beside those
    that another run of this study has written meanwhile; run again with the same settings, only the missing seeds are
    trained. Raises UserError where that JSON holds other settings.
    """
    seeds, workers = settings["seeds"], settings["workers"]
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds} must name at least one seed, and none twice")
    if workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    path = Path(settings["results"]) / f"{settings['name']}.json"
    own = {part: settings[part] for part in parts_of(settings)}
    known = recorded(path, own).get("seeds", {})
    content: dict[str, Any] = {"settings": own, "seeds": known}
    content |= {key: settings[key] for key in ("name", "task", "title", "target", "every_seed")}
    content["command"] = f"python scripts/run_study.py study={settings['name']}"
    missing = [seed for seed in seeds if str(seed) not in known]
    print(f"{settings['name']}: {len(missing)} of {len(seeds)} seeds to train", flush=True)
    # forked workers would share this one's threads and locks
    work = _world_model if settings["rounds"] else _model_free
    # what is model-free is too small for several threads to pay
    threads = max(1, default_workers() // workers) if settings["rounds"] else 1
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (threads,)) as pool:
        running = {pool.submit(work, settings, seed): seed for seed in missing}
        for done in as_completed(running):
            # another run may have scored other seeds meanwhile
            scored = {**recorded(path, own).get("seeds", {}), str(running[done]): done.result()}
            content["seeds"] = dict(sorted(scored.items(), key=lambda item: int(item[0])))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, content)
            print(f"seed {running[done]}: {_line(done.result())}", flush=True)
    return path


def parts_of(settings: dict[str, Any]) -> tuple[str, ...]:
    """The sections that decide a study's numbers."""
    if not settings["rounds"]:
        return PARTS
    return PARTS + tuple(part for part in PIPELINE_PARTS if part not in LATER_ROUNDS or settings["rounds"] > 1)


def differing(recorded: Any, now: Any, place: str = "") -> list[str]:
    """What of recorded settings has another value now, each as a line."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        lines = []
        for key in [*recorded, *(key for key in now if key not in recorded)]:
            own = f"{place}.{key}" if place else key
            # of a sweep's learners too, but not of `again`, where what is absent stays as it was
            before = LATER.get(re.sub(r"^learners\.\w+\.", "", own), "absent")
            lines += differing(recorded.get(key, before), now.get(key, before), own)
        return lines
    return [] if recorded == now else [f"{place} is {recorded} there, {now} here"]


def recorded(path: Path, own: dict[str, Any]) -> dict[str, Any]:
    """What `path` holds of these settings. Raises UserError where it holds the scores of others."""
    if not path.exists():
        return {}
    known = json.loads(path.read_text())
    there, here = ({"rounds": settings.get("rounds", 0)} for settings in (known["settings"], own))
    # a pipeline differs in all else as well
    refuse(path, differing(there, here) or differing(known["settings"], own))
    return known


def refuse(path: Path, differences: list[str]) -> None:
    """Raises UserError where `path` holds what other settings made, see `differing`."""
    if differences:
        more = f" and {len(differences) - 1} more" if differences[1:] else ""
        raise UserError(
            f"{path} holds the scores of other settings ({differences[0]}{more}); keep them and set "
            f"results=elsewhere, or delete the file"
        )


def heading(pipeline: Pipeline, command: str, own: dict[str, Any]) -> dict[str, Any]:
    """What the JSON of a comparison begins with: its settings, and what has been spent on what all have in common."""
    return {
        "name": pipeline.name,
        "task": pipeline.settings["env"]["id"],
        "command": command,
        "settings": own,
        "env_steps": int(sum(row.scores.get("frames", 0) for row in pipeline.rows)),
        "seconds": round(sum(row.seconds for row in pipeline.rows), 1),
    }


def circumstances() -> dict[str, Any]:
    """When, on what and with what figures were made."""
    return {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "versions": versions()}


def _begin(threads: int) -> None:
    """So many threads for each worker, and none of them outlives a study that was killed."""
    torch.set_num_threads(threads)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    study = multiprocessing.parent_process()
    assert study is not None, "this runs in a worker"
    study.join()
    os._exit(1)


def _model_free(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """What one seed has to show."""
    own = {**settings, "seed": seed}
    run, scoring = Run("train_baseline", own), Run("evaluate", own)
    started = time.perf_counter()
    try:
        parts = {name: settings[name] for name in ("env", "algo", "policy", "device")}
        trained = train_baseline(run, **parts, seed=seed)
        run.record(trained)
        seconds = time.perf_counter() - started
    finally:
        run.close()
    try:
        vector = {name: settings["env"][name] for name in ("num_envs", "asynchronous")}
        checkpoint = trained.artefacts["checkpoint"]
        scored = evaluate(scoring, **settings["evaluation"], **vector, checkpoint=checkpoint, device="cpu")
        scoring.record(scored)
    finally:
        scoring.close()
    frames = int(trained.scores["env_steps"])
    return _found(scored.artefacts["scores"], frames, seconds, curve_of(run.folder / "metrics.csv"))


def _world_model(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """What one seed has to show. Studies share a pipeline for each seed, and so the stages that they have in common."""
    name = f"studies_s{seed}"
    pipeline = Pipeline(name, {**settings, "name": name, "seed": seed})
    rounds, best, _ = play_rounds(pipeline)
    scored = score(pipeline, best)
    if settings["world"] == "dream":  # which has no curve of its own over real frames
        curve = [(one.frames, round(one.validation, 3)) for one in rounds if one.validation is not None]
    else:
        curve, frames = [], 0
        for row in pipeline.rows:
            if row.scores.get("env_steps"):
                points = curve_of(Path(row.artefacts["checkpoint"]).parent / "metrics.csv")
                curve += [(step + frames, value) for step, value in points]
            frames += int(row.scores.get("env_steps", 0) + row.scores.get("frames", 0))
    found = _found(scored.artefacts["scores"], rounds[-1].frames, rounds[-1].seconds, curve)
    return {**found, "rounds": [one._asdict() for one in rounds]}


def _found(scores: str | Path, frames: int, seconds: float, curve: list[tuple[int, float]]) -> dict[str, Any]:
    return {
        "env_steps": frames,
        "seconds": round(seconds, 1),
        "returns": returns_in(scores),
        "curve": curve,
        **circumstances(),
    }


def curve_of(metrics: Path) -> list[tuple[int, float]]:
    """(env_step, training return), from the first ended episode on; at most POINTS of them, evenly picked."""
    with metrics.open() as file:
        rows = [
            (int(float(row["env_step"])), round(float(row["train/return"]), 3))
            for row in csv.DictReader(file)
            if row.get("train/return") not in (None, "", "nan")
        ]
    picked = np.unique(np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).round().astype(int))
    return [rows[index] for index in picked]


def _line(found: dict[str, Any]) -> str:
    return f"{summarize(found['returns'])}; {found['env_steps']:,} env steps in {found['seconds']:.0f} s"
