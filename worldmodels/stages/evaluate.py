"""Score controllers on held-out real tracks."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.car_racing import scored
from ..envs.make import LATER, versions
from ..envs.seeding import environment_seed
from ..envs.spaces import restore
from ..errors import UserError
from ..evaluation.statistics import summarize
from ..rollouts.behaviours import make_behaviour
from ..rollouts.collect import Behaviour, play
from ..rollouts.files import write_json
from ..tracking import Progress, Run, StageResult, pick_device
from ..types import Episode
from .driving import load_driver
from .settings import describe_environment, open_envs


def evaluate(
    run: Run,
    episodes: int,
    split: str,
    num_envs: int,
    asynchronous: bool,
    stock: bool = True,
    checkpoint: str | Path | None = None,
    behaviour: str | None = None,
    env: dict[str, Any] | None = None,
    vision: str | Path | None = None,
    memory: str | Path | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> StageResult:
    """Returns over `episodes` tracks of the "test" or "validation" split, which no training has seen.

    Give the checkpoint of any controller, or else a behaviour and its env. A checkpoint is always played in its own
    environment, but CarRacing as the stock class draws it unless `stock` is false. `seed` is the bootstrap's.
    scores.json in the run folder has each track's return and rewards, and all that is needed to repeat it.
    """
    pick_device(device)
    if split not in ("test", "validation"):
        raise UserError(f"evaluation.split is {split!r}; choose test or validation: training tracks prove nothing")
    if episodes < 1:
        raise UserError("evaluation.episodes must be at least 1")
    num_envs = min(num_envs, episodes)
    inputs: dict[str, Path] = {}
    chooser: Behaviour
    if checkpoint is not None:
        chooser, environment, inputs = load_driver(checkpoint, num_envs, device, vision=vision, memory=memory)
    elif behaviour is not None and env is not None:
        environment = describe_environment(env)
        chooser = make_behaviour(behaviour, restore(environment["action"]))
    else:
        raise UserError("nothing to evaluate; pass checkpoint=runs/train_controller/…/last.ckpt or behaviour=uniform")
    environment = scored(environment, stock)
    seeds = [environment_seed(split, index) for index in range(episodes)]
    label = "evaluate" if checkpoint is not None else f"evaluate {behaviour}"
    with closing(open_envs(environment, num_envs, asynchronous)) as envs, Progress(label, episodes, "episodes") as bar:
        run.begin(environment["id"], inputs, versions(), split=split)
        played: dict[int, Episode] = {}
        for episode in play(envs, chooser, seeds):
            played[episode.seed] = episode._replace(observation=episode.observation[:0])
            bar.advance(mean=float(np.mean([one.reward.sum(dtype=np.float64) for one in played.values()])))
    ordered = [played[seed] for seed in seeds]
    returns = [float(episode.reward.sum(dtype=np.float64)) for episode in ordered]
    summary = summarize(returns, seed)
    steps = sum(len(episode.reward) for episode in ordered)
    path = run.folder / "scores.json"
    write_json(
        path,
        {
            "summary": summary._asdict(),
            "split": split,
            "seeds": seeds,
            "returns": returns,
            "steps": [len(episode.reward) for episode in ordered],
            "terminated": [episode.terminated for episode in ordered],
            "rewards": [episode.reward.astype(np.float64).round(4).tolist() for episode in ordered],
            "frames_at_most": steps * environment["action_repeat"],
            "environment": environment,
            "wrappers": {
                key: environment[key]
                for key in ("action_repeat", "action_low", "action_high", "crop_rows", "frame_size", "stack", *LATER)
                if key in environment
            },
            "policy": behaviour
            if checkpoint is None
            else json.loads((run.folder / "lineage.json").read_text())["inputs"],
            "versions": versions(),
        },
    )
    return StageResult(
        steps * environment["action_repeat"],
        "frames",
        str(summary),
        {"scores": path},
        {
            **{name: getattr(summary, name) for name in ("mean", "sd", "low", "high", "n")},
            "frames": steps * environment["action_repeat"],
        },
    )


def returns_in(scores: str | Path) -> list[float]:
    """The returns of a scores.json, to three places."""
    return [round(value, 3) for value in json.loads(Path(scores).read_text())["returns"]]
