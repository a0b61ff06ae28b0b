"""Score a controller in the dream, beside what the real environment has ever paid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import lightning
import numpy as np
import torch

from .. import checkpoints
from ..envs.make import versions
from ..errors import UserError
from ..evaluation.statistics import summarize
from ..rollouts.files import write_json
from ..tracking import Run, StageResult, pick_device
from ..worlds.dream_env import dream_from_checkpoint
from .driving import ACTORS


@torch.no_grad()
def score_dream(
    run: Run,
    checkpoint: str | Path,
    memory: str | Path | None,
    dreams: int,
    horizon: int,
    temperature: float,
    seed: int,
    device: str = "auto",
) -> StageResult:
    """Greedy returns of C over `dreams` dreams of at most `horizon` steps, each from a real start that M's file keeps.

    memory: M's checkpoint, if not where C's own says. dream_scores.json in the run folder has each dream's return and
    length. Raises UserError for a C without a memory.
    """
    where = pick_device(device)
    if dreams < 1:
        raise UserError(f"dreams={dreams} score nothing; set 1 or more")
    lightning.seed_everything(seed, verbose=False)
    read = checkpoints.read(checkpoint, *ACTORS)
    if read.facts["memory"] is None or read.facts["random_memory"] is not None:
        raise UserError(
            f"{checkpoint} was trained without a model that has learned; only a C of train_controller can dream"
        )
    memory = Path(memory or read.facts["memory"])
    checkpoints.require_same("M", read.facts["memory_sha256"], checkpoints.read(memory, "memory"), f"C {checkpoint}")
    actor, _ = ACTORS[read.kind].load(checkpoint)
    actor.to(where)
    world = dream_from_checkpoint(memory, dreams, horizon, temperature, read.facts["sees"], seed, where)
    inputs = {"controller": read.path, "memory": memory}
    run.begin(read.facts["environment"]["id"], inputs, versions(), horizon=horizon, temperature=temperature)
    state = world.reset()
    alive = torch.ones(dreams, dtype=torch.bool, device=where)
    returns, steps = torch.zeros(dreams, device=where), torch.zeros(dreams, device=where)
    for _ in range(horizon):
        step = world.step(actor.act(state))
        returns += step.reward * alive
        steps += alive
        alive &= ~(step.terminated | step.truncated)
        state = step.state
    summary = summarize(returns.tolist(), seed)
    path = run.folder / "dream_scores.json"
    content = {"returns": returns.tolist(), "steps": steps.int().tolist()}
    write_json(path, {"summary": summary._asdict(), "horizon": horizon, "temperature": temperature, **content})
    return StageResult(
        int(steps.sum()),
        "steps",
        f"dream {summary}",
        {"scores": path},
        {"mean": summary.mean, "sd": summary.sd, "steps": float(steps.mean())},
    )


class Paid(NamedTuple):
    """What an episode paid."""

    reward: np.ndarray  # [T]
    terminated: bool  # it ended by itself, and was not cut off


def stretches(episode: Paid, horizon: int) -> np.ndarray:
    """What `horizon` steps from each step on pay, for each of these steps [T].

    Nothing is paid behind an end. Behind a cut nobody knows: what came before it counts for the rest.
    """
    total = np.concatenate([[0.0], np.cumsum(episode.reward, dtype=np.float64)])
    begins = np.arange(len(episode.reward))
    steps = np.minimum(len(begins) - begins, horizon)
    return (total[begins + steps] - total[begins]) / (horizon if episode.terminated else steps)


def expected(episodes: Iterable[Paid], horizon: int) -> float:
    """What `horizon` steps pay on average, for each of these steps, from any step of the episodes on."""
    return float(np.concatenate([stretches(one, horizon) for one in episodes]).mean())


def payable(episodes: Iterable[Paid], horizon: int) -> float:
    """The most that `horizon` successive steps have paid, for each of these steps; an episode that is shorter counts as
    a whole. −∞ without episodes."""
    whole = (stretches(one, horizon)[: max(1, len(one.reward) - horizon + 1)] for one in episodes)
    return max((float(each.max()) for each in whole), default=-float("inf"))
