"""Collect episodes of a real environment into a store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.make import versions
from ..envs.seeding import environment_seed
from ..envs.spaces import restore
from ..errors import UserError
from ..rollouts.behaviours import make_behaviour
from ..rollouts.collect import Behaviour, play
from ..rollouts.store import RolloutStore
from ..tracking import Progress, Run, StageResult, pick_device
from .driving import load_driver
from .settings import describe_environment, open_envs, with_kwargs


def collect(
    run: Run,
    store: str | Path,
    env: dict[str, Any],
    episodes: int,
    behaviour: str | Sequence[str],
    seed: int,
    options: dict[str, dict[str, float]] | None = None,
    max_steps: int | None = None,
    checkpoint: str | Path | None = None,
    noise: float | Sequence[float] = 0.0,
    noise_correlation: float = 0.0,
    env_kwargs: dict[str, Any] | None = None,
    validation_every: int = 10,
    device: str = "cpu",
    complete: bool = False,
) -> StageResult:
    """Append `episodes` to the store at `store`; with complete, only as many as it lacks to hold so many.

    behaviour: one of BEHAVIOURS, or several that take turns, or "controller" with its checkpoint and noise, see
    `Exploration`.
    options: of the behaviours, by name; max_steps: cut episodes there, as if their clock had ended.
    env_kwargs: more arguments of the environment while it is played; the store is of the environment without them.
    Every validation_every-th episode of a store gets a seed of the validation space, the others training seeds.
    """
    pick_device(device)
    if episodes < 1 or validation_every < 2:
        raise UserError("collect.episodes must be at least 1 and collect.validation_every at least 2")
    names = [behaviour] if isinstance(behaviour, str) else list(behaviour)
    description = describe_environment(env)
    target = RolloutStore.create(store, description)
    wanted = episodes - len(target.entries) if complete else episodes
    present = {entry.seed for entry in target.entries}
    fresh = ((number, _seed(number, validation_every, seed)) for number in count())
    # an interrupted collection leaves gaps: they are filled first
    planned = list(islice(((number, chosen) for number, chosen in fresh if chosen not in present), max(wanted, 0)))
    actions = restore(description["action"])
    inputs: dict[str, Path] = {}
    frames = 0
    played = with_kwargs(env, env_kwargs)
    with closing(open_envs(played, min(env["num_envs"], max(wanted, 1)), env["asynchronous"])) as envs:
        chosen: list[tuple[str, Behaviour]] = []
        for name in names:
            if name == "controller":
                if checkpoint is None:
                    raise UserError("behaviour=controller needs collect.checkpoint=runs/train_controller/…/last.ckpt")
                driver, trained, inputs = load_driver(checkpoint, envs.num_envs, device, noise, noise_correlation)
                if trained["action"] != description["action"]:
                    raise UserError(_other_actions(checkpoint, trained, description))
                chosen.append((name, driver))
            else:
                chosen.append((name, make_behaviour(name, actions, **(options or {}).get(name, {}))))
        run.begin(description["id"], inputs, versions(), store=str(store), episodes_before=len(target.entries))
        with Progress("collect", len(planned), "episodes") as progress:
            for turn, (name, chooser) in enumerate(chosen):
                # shifted by one after each validation episode, so that each split sees every behaviour
                seeds = [s for number, s in planned if (number + number // validation_every) % len(chosen) == turn]
                for episode in play(envs, chooser, seeds, max_steps):
                    target.append(episode, name)
                    frames += len(episode.reward) * description["action_repeat"]
                    progress.advance(frames=frames)
    returns = [entry.total_reward for entry in target.entries]
    return StageResult(
        frames,
        "frames",
        f"{len(returns)} episodes, mean return {np.mean(returns):.0f}",
        {"store": Path(store)},
        {
            "episodes": len(returns),
            # all that the store cost, of interrupted runs as well
            "frames": sum(entry.length for entry in target.entries) * description["action_repeat"],
            "mean_return": float(np.mean(returns)),
        },
    )


def _other_actions(checkpoint: str | Path, there: dict[str, Any], here: dict[str, Any]) -> str:
    """What to say where a controller's actions are not those here; both are descriptions of environments.

    A range and a choice of actions are named with the setting that makes them so; else it is another environment.
    """
    if there["id"].split("/")[-1] != here["id"].split("/")[-1]:
        return f"{checkpoint} acts in {there['id']}, not in {here['id']}; set env to match"
    spaces = here["action"], there["action"]
    if all(space["type"] == "box" for space in spaces):
        values = {f"action_{bound}": [space[bound] for space in spaces] for bound in ("low", "high")}
    else:
        values = {"actions": [here.get("actions"), there.get("actions")]}
    differing = {name: pair for name, pair in values.items() if pair[0] != pair[1]}
    if not differing or here["action"]["type"] != there["action"]["type"]:
        return (
            f"{checkpoint} acts in {there['id']} with {there['kwargs']}, not with {here['kwargs']}; "
            "set env.kwargs to match"
        )
    told = ", ".join(f"{name} {_plain(now)} here, {_plain(then)} there" for name, (now, then) in differing.items())
    settings = " ".join(f"env.{name}={_plain(there.get(name)).replace(' ', '')}" for name in differing)
    return f"{checkpoint} has other actions in {there['id']}: {told}; set {settings}"


def _plain(values: list[float] | None) -> str:
    """As a command takes it; what was f32 in as few digits as it needs."""
    return "null" if values is None else str([v if isinstance(v, int) else float(str(np.float32(v))) for v in values])


def _seed(number: int, validation_every: int, run_seed: int) -> int:
    """The seed of a store's episode: its split follows from it."""
    if number % validation_every == 0:
        # validation seeds are the same for every run; their order here need not be
        return environment_seed("validation", number // validation_every + 1000 * run_seed)
    return environment_seed("train", number, run_seed)
