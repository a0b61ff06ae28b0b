"""Stages that run once each: what is finished is known by the content that it was made from."""

from __future__ import annotations

import gc
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoints import sha256
from ..rollouts.files import write_json
from ..tracking import Run, StageResult

Inputs = dict[str, Path | list[Path] | None]

# keys of the config that came after stages had been finished and scores recorded, with the values that change nothing:
# at these, what was there before stays as it is
LATER = {
    "env.blackout": None,
    "vision.clip_norm": None,
    "algo.budget": None,
    "algo.points": False,
    "algo.sharpen": 1.0,
    "collect.noise_correlation": 0.0,
    "collect.env_kwargs": None,
    "vision.model.anneal": False,
    "memory.model.anneal": False,
    "memory.model.latent_noise": 1.0,
    "memory.model.reward_smoothing": 0,
    "memory.overhang": False,
    "memory.through": False,
    "controller.snapshots": 0,
    "controller.snapshots_after": 0.0,
    "controller.doubt": 0.0,
    "controller.ensemble": False,
    "controller.env_kwargs.off_road_start": 0.0,
    "controller.env_kwargs.off_road_home": None,
    "last": {},
    "guard.rivals": 2,  # which are made where something asks for them
}
# of the config, where a stage has another name
SECTIONS = {"train_vae": "vision", "train_mdnrnn": "memory", "train_controller": "controller"}


class Row(NamedTuple):
    """A line of the table that ends a pipeline."""

    stage: str
    seconds: float
    samples: int
    unit: str
    metric: str
    artefacts: dict[str, str]
    scores: dict[str, float]
    resumed: bool
    folder: str = ""  # of its run


class Pipeline:
    """Runs stages once each and remembers them by the content of their inputs.

    A stage's key is a hash over its settings and over the bytes of every input. It counts as finished for as long as
    its outputs still are the bytes that it wrote.
    """

    def __init__(self, name: str, settings: dict[str, Any]):
        self.name, self.settings = name, settings
        self.path = Path(settings["runs"]) / "pipeline" / name / "finished.json"
        self.rows: list[Row] = []

    def _finished(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def stage(self, label: str, work: Callable[..., StageResult], inputs: Inputs, **settings: Any) -> Row:
        """Call `work(run, **inputs, **settings)`, or hand out what it has already made."""
        # concerns what learns alone, whose numbers are others then
        learns = work.__name__ in ("train_vae", "train_mdnrnn", "train_controller")
        compiles = {"compile": True} if self.settings.get("compile") and learns else {}
        key = key_of(work.__name__, inputs, settings | compiles)
        known = self._finished().get(key)
        if known and all(fingerprint(Path(path)) == found for path, found in known["outputs"].items()):
            row = Row(**known["row"])._replace(stage=label, resumed=True)
            print(f"── {label}: finished before, nothing it depends on has changed", flush=True)
        else:
            print(f"── {label}", flush=True)
            own = {"runs": self.settings["runs"], "wandb": {**self.settings["wandb"], "group": self.name}}
            run = Run(work.__name__, {**settings, **compiles, **own})
            started = time.perf_counter()
            try:
                result = work(run, **inputs, **settings)
                run.record(result)
            finally:
                run.close()
                # a trainer and its data are a cycle that Python would keep for many stages: gigabytes, round by round
                gc.collect()
            artefacts = {name: str(path) for name, path in result.artefacts.items()}
            seconds = time.perf_counter() - started
            row = Row(
                label,
                seconds,
                result.samples,
                result.unit,
                result.metric,
                artefacts,
                result.scores,
                False,
                str(run.folder),
            )
            outputs = {path: fingerprint(Path(path)) for path in artefacts.values()}
            # studies that run side by side share a pipeline: what another has finished meanwhile stays known
            finished = {**self._finished(), key: {"row": row._asdict(), "outputs": outputs}}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, finished)
        self.rows.append(row)
        # of this run alone: finished.json also remembers what other settings made
        write_json(self.path.with_name("rows.json"), [one._asdict() for one in self.rows])
        return row


def fingerprint(path: Path) -> str:
    """A file's hash, or a store's: that of its manifest, which holds the hash of every shard."""
    path = path / "manifest.json" if path.is_dir() else path
    return sha256(path) if path.is_file() else "absent"


def key_of(name: str, inputs: Inputs, settings: dict[str, Any]) -> str:
    """What decides a stage's result: its name, its settings, and the content (not the place) of its inputs."""
    content = {
        key: [fingerprint(path) for path in value] if isinstance(value, list) else value and fingerprint(value)
        for key, value in inputs.items()
    }
    deciding = _without(settings, f"{SECTIONS.get(name, name)}.")
    return hashlib.sha256(json.dumps([name, content, deciding], sort_keys=True).encode()).hexdigest()


def _without(settings: dict[str, Any], place: str) -> dict[str, Any]:
    """The settings at `place` of the config without those that came later and change nothing."""
    return {
        key: _without(value, f"{place}{key}.") if isinstance(value, dict) else value
        for key, value in settings.items()
        if place + key not in LATER or value != LATER[place + key]
    }
