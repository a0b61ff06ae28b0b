"""Does the dream rank controllers as the real environment does? The dream's return beside the real one, for many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.make import versions
from ..errors import UserError
from ..evaluation.plots import worlds_plot
from ..evaluation.statistics import rank_correlation
from ..rollouts.files import write_json
from ..tracking import Run, StageResult
from .dream_score import score_dream
from .evaluate import evaluate, returns_in

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
        checkpoints = sorted(Path(checkpoints).glob("snapshot_*.ckpt"))
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


def _scored(run: Run, work: Any, **settings: Any) -> list[float]:
    """The returns of one stage, done in a run folder of its own."""
    own = Run(work.__name__, run.settings)
    try:
        result = work(own, **settings)
        own.record(result)
    finally:
        own.close()
    return returns_in(result.artefacts["scores"])
