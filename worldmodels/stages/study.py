"""A study: one algorithm on one task with several seeds, its raw scores kept for the tables and pictures."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..envs.make import processor, versions
from ..errors import UserError
from ..evaluation.statistics import summarize
from ..rollouts.files import write_json
from ..tracking import Run
from .controller import train_baseline
from .evaluate import evaluate

POINTS = 200  # kept of a learning curve
PARTS = ("env", "algo", "policy", "evaluation")  # the settings that decide a study's numbers


def run_study(settings: dict[str, Any]) -> Path:
    """Train model-free and score on held-out episodes, once for each of `seeds`; returns the JSON in `results`.

    `workers` seeds run side by side, each in a process and with a thread of its own. Each seed's scores are written as
    they come; run again with the same settings, only the missing seeds are trained.
    """
    seeds, workers = settings["seeds"], settings["workers"]
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds} must name at least one seed, and none twice")
    if workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    own = {part: settings[part] for part in PARTS}
    path = Path(settings["results"]) / f"{settings['name']}.json"
    content: dict[str, Any] = {"settings": own, "seeds": {}}
    if path.exists():
        known = json.loads(path.read_text())
        if known["settings"] == own:
            content = known
    content |= {key: settings[key] for key in ("name", "task", "title", "target", "every_seed")}
    content["command"] = f"python scripts/run_study.py study={settings['name']}"
    missing = [seed for seed in seeds if str(seed) not in content["seeds"]]
    print(f"{settings['name']}: {len(missing)} of {len(seeds)} seeds to train", flush=True)
    # forked workers would share this one's threads and locks
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin) as pool:
        running = {pool.submit(_train_and_score, settings, seed): seed for seed in missing}
        for done in as_completed(running):
            content["seeds"][str(running[done])] = done.result()
            content["seeds"] = dict(sorted(content["seeds"].items(), key=lambda item: int(item[0])))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, content)
            print(f"seed {running[done]}: {_line(done.result())}", flush=True)
    return path


def _begin() -> None:
    """One thread for each worker, and none of them outlives a study that was killed."""
    torch.set_num_threads(1)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    study = multiprocessing.parent_process()
    assert study is not None, "this runs in a worker"
    study.join()
    os._exit(1)


def _train_and_score(settings: dict[str, Any], seed: int) -> dict[str, Any]:
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
    scores = json.loads(scored.artefacts["scores"].read_text())
    return {
        "env_steps": int(trained.scores["env_steps"]),
        "seconds": round(seconds, 1),
        "returns": [round(value, 3) for value in scores["returns"]],
        "curve": curve_of(run.folder / "metrics.csv"),
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "versions": versions(),
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
