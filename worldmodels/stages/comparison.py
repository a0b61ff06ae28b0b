"""Does the dream rank controllers as the real environment does? The dream's return beside the real one, for many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.make import versions
from ..errors import UserError
from ..evaluation.plots import worlds_plot
from ..evaluation.statistics import rank_correlation
from ..rollouts.files import write_json
from ..tracking import Run, StageResult, typed
from .dream_score import score_dream
from .evaluate import evaluate, returns_in
from .pipeline import dreams_with_rivals, learn, play_rounds
from .resumable import Inputs, Pipeline
from .study import PARTS, PIPELINE_PARTS, circumstances, heading, recorded

FEWEST = 3  # controllers that can be ranked


def compare_worlds(
    run: Run,
    checkpoints: Sequence[str | Path] | str,
    dreams: int,
    horizon: int,
    temperature: float,
    episodes: int,
    num_envs: int,
    asynchronous: bool,
    seed: int,
    vision: str | Path | None = None,
    memory: str | Path | None = None,
    device: str = "auto",
) -> StageResult:
    """Each C over `dreams` dreams of at most `horizon` steps, and over `episodes` validation tracks.

    Spearman's rank correlation of the two mean returns over the controllers, and its 95 % bootstrap interval.
    comparison.json and comparison.png in the run folder; each score has a run folder of its own. checkpoints: those of
    controllers, or a run folder whose snapshots they are. vision, memory: where they are, if not where the checkpoints
    say. Raises UserError for fewer than 3 controllers.
    """
    if isinstance(checkpoints, str):
        checkpoints = snapshots_in(checkpoints)
    if len(checkpoints) < FEWEST:
        raise UserError(
            f"{len(checkpoints)} controllers cannot be ranked; name {FEWEST} or more, or the folder of a C that was "
            f"trained with controller.snapshots={4 * FEWEST}"
        )
    rows: list[dict[str, Any]] = []
    parts = {"seed": seed, "device": device}
    dreaming = {"memory": memory, "dreams": dreams, "horizon": horizon, "temperature": temperature}
    playing = {"vision": vision, "memory": memory, "episodes": episodes, "split": "validation", "stock": False}
    playing |= {"num_envs": num_envs, "asynchronous": asynchronous}
    for checkpoint in checkpoints:
        dreamt = _scored(run, score_dream, checkpoint=checkpoint, **dreaming, **parts)
        played = _scored(run, evaluate, checkpoint=checkpoint, **playing, **parts)
        rows.append({"checkpoint": str(checkpoint), "dream": dreamt, "real": played})
        print(f"{checkpoint}: dream {np.mean(dreamt):.1f}, real {np.mean(played):.1f}", flush=True)
    dream, real = (np.array([np.mean(row[where]) for row in rows]) for where in ("dream", "real"))
    found = rank_correlation(dream, real, seed)
    inputs = {f"controller_{number}": Path(checkpoint) for number, checkpoint in enumerate(checkpoints)}
    run.begin("several", inputs, versions(), horizon=horizon, temperature=temperature)
    content = {"rank_correlation": found._asdict(), "horizon": horizon, "temperature": temperature, "controllers": rows}
    write_json(run.folder / "comparison.json", content)
    worlds_plot(run.folder / "comparison.png", content)
    return StageResult(
        len(rows),
        "controllers",
        f"rank correlation of dream and real return over {len(rows)} controllers: {found}",
        {"comparison": run.folder / "comparison.json", "picture": run.folder / "comparison.png"},
        {"rank_correlation": found.value, "low": found.low, "high": found.high},
    )


def rank_controllers(settings: dict[str, Any]) -> Path:
    """V and M by the rounds of a preset; then a C from nothing in the dream of the best round's M, of which `snapshots`
    on the way are ranked in both worlds, see `compare_worlds`; returns the JSON in `results`.

    Run again with the same settings, it goes on where it stopped. Raises UserError where that JSON holds the scores of
    other settings, and for a C that does not learn in the dream.
    """
    if settings["world"] != "dream" or dreams_with_rivals(settings["controller"]):
        raise UserError(
            "controllers are ranked that learn in the dream of one M; set world=dream, controller.doubt=0 and "
            "controller.ensemble=false"
        )
    if settings["snapshots"] < FEWEST:
        raise UserError(f"snapshots={settings['snapshots']} cannot be ranked; set {FEWEST} or more")
    path = Path(settings["results"]) / f"{settings['name']}.json"
    comparing = {key: settings[key] for key in ("dreams", "horizon", "episodes")}
    own = {part: settings[part] for part in (*PARTS, *PIPELINE_PARTS, "seed", "snapshots")} | comparing
    recorded(path, own)
    pipeline = Pipeline(settings["name"], settings)
    _, made, _ = play_rounds(pipeline)
    parts = {part: settings[part] for part in ("policy", "algo")}
    learning = {**settings["controller"], **parts, "snapshots": settings["snapshots"]}
    snapshots = learn(pipeline, made, learning, None, ", from nothing").snapshots
    comparing |= {"temperature": settings["controller"]["temperature"]}
    comparing |= {name: settings["env"][name] for name in ("num_envs", "asynchronous")}
    inputs: Inputs = {"checkpoints": list(snapshots), "vision": made.vision, "memory": made.memory}
    seeded = {"seed": settings["seed"], "device": settings["device"]}
    ranked = pipeline.stage("both worlds", compare_worlds, inputs, **comparing, **seeded)
    found = json.loads(Path(ranked.artefacts["comparison"]).read_text())
    for one in found["controllers"]:  # by the update, since a path is of this machine
        one["update"] = int(Path(one.pop("checkpoint")).stem.removeprefix("snapshot_"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**heading(pipeline, typed(), own), **circumstances(), **found})
    print(ranked.metric, flush=True)
    return path


def snapshots_in(folder: str | Path) -> list[Path]:
    """The checkpoints that a C left there on the way, in their order."""
    return sorted(Path(folder).glob("snapshot_*.ckpt"))


def _scored(run: Run, work: Any, **settings: Any) -> list[float]:
    """The returns of one stage, done in a run folder of its own."""
    own = Run(work.__name__, run.settings)
    try:
        result = work(own, **settings)
        own.record(result)
    finally:
        own.close()
    return returns_in(result.artefacts["scores"])
