"""The whole way in one go: collect → V → M → C → evaluate → look, for some rounds, resumable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from ..errors import UserError
from ..rollouts.files import write_json
from ..rollouts.store import RolloutStore
from ..tracking import figure, pick_device
from .collect import collect
from .controller import train_controller
from .diagnosis import diagnose_memory, diagnose_vision
from .dream_score import Paid, expected, payable, score_dream
from .evaluate import evaluate
from .guard import Round, check_repairs, out_of_patience, repaired, warnings_of
from .memory import train_mdnrnn
from .resumable import Inputs, Pipeline, Row, key_of
from .settings import describe_environment, with_kwargs
from .video import dream_video
from .vision import train_vae

ROUND = ("collect", "vision", "memory", "controller", "algo")  # what later rounds may change, under `again` and `last`
RIVAL_SEEDS = 1_000_000  # between M's seed and its rivals'
VALIDATION = "validate C"  # how the stages are called that play validation tracks


def merged(section: dict[str, Any], changes: dict[str, Any], place: str = "again") -> dict[str, Any]:
    """The section with `changes` put in, however deep; `place` is where they are set.

    Raises UserError for a key that the section does not have, and for a value in a section's place. env_kwargs may get
    any: an environment knows its own.
    """
    if not isinstance(changes, dict):
        raise UserError(f"{place} must be {{KEY: VALUE}} with keys of {', '.join(section)}, not {changes!r}")
    result = dict(section)
    for key, value in changes.items():
        if key not in section and not place.endswith(".env_kwargs"):
            raise UserError(f"{place} names {key!r}, which its section does not have: {', '.join(section)}")
        before = section.get(key)
        result[key] = merged(before, value, f"{place}.{key}") if isinstance(before, dict) else value
    return result


def _changed(plan: dict[str, Any], settings: dict[str, Any], place: str) -> dict[str, Any]:
    """The plan of a round with what `settings` change in it at that place."""
    return {part: merged(plan[part], settings[place].get(part) or {}, f"{place}.{part}") for part in ROUND}


class Made(NamedTuple):
    """What a round hands to the next one, and the best one to the scores."""

    vision: Path | None = None
    memory: Path | None = None
    controller: Path | None = None
    snapshots: tuple[Path, ...] = ()  # of C, where it leaves some on the way
    rivals: tuple[Path, ...] = ()  # other M's, where they doubt or dream


def run_pipeline(settings: dict[str, Any]) -> list[Row]:
    """All rounds, see `play_rounds`; then scores of the best C and of random play, a film, and what V and M of that
    round have learned.

    Run again with the same settings, it goes on where it stopped.
    """
    pipeline = Pipeline(settings["name"], settings)
    _, best, stores = play_rounds(pipeline)
    score(pipeline, best)
    score_random(pipeline)
    seeded = {"seed": settings["seed"], "device": settings["device"]}
    pipeline.stage("video", dream_video, _checkpoint_of(best), **settings["video"], **seeded)
    diagnose(pipeline, best, stores)
    return pipeline.rows


def diagnose(pipeline: Pipeline, made: Made, stores: list[Path]) -> tuple[Row, Row]:
    """V and M on the stores' held-out episodes."""
    looking = dict(pipeline.settings["diagnosis"])
    seeded = {"seed": pipeline.settings["seed"], "device": pipeline.settings["device"]}
    models: Inputs = {"stores": list(stores), "vision": made.vision}
    vision = pipeline.stage("diagnosis of V", diagnose_vision, models, frames=looking.pop("frames"), **seeded)
    models |= {"memory": made.memory}
    return vision, pipeline.stage("diagnosis of M", diagnose_memory, models, **looking, **seeded)


def play_rounds(pipeline: Pipeline) -> tuple[list[Round], Made, list[Path]]:
    """`rounds` times: collect (first without a controller, then with C and noise), V, M, C; the best C with its models,
    and all stores.

    The pipeline's settings are the config's sections; `again` holds what differs from the second round on, `last` what
    differs besides in round number `rounds`, if that is not the first. V (unless its `again` section is null), M and C
    go on from the round before. With `validation.episodes`, C plays that many validation tracks after each round; where
    it leaves snapshots (`controller.snapshots`), each of them does, and the best is the round's C. The best round's is
    handed out, and `validation.patience` rounds without a better one are the last. Each round's figures, and what
    `guard` finds suspicious about them, are printed and go into rounds.json beside finished.json.
    """
    settings = pipeline.settings
    _check(settings)
    first = {part: settings[part] for part in ROUND}
    # before anything is made: a wrong key would else be found after the first round
    later = _changed(first, settings, "again")
    last = _changed(later, settings, "last")
    plans = [first, *[later] * (settings["rounds"] - 2), last][: settings["rounds"]]
    for plan in (first, later, last):
        _check_rivals({**settings, **plan})
        for part in ("collect", "controller"):
            describe_environment(with_kwargs(settings["env"], plan[part]["env_kwargs"]))
    stores: list[Path] = []
    rounds: list[Round] = []
    made = best = Made()
    repairs = 0
    for number in range(settings["rounds"]):
        plan = repaired(plans[number], settings["guard"]["repair"], repairs)
        keeps_vision = number > 0 and settings["again"].get("vision", {}) is None
        made = _one_round(pipeline, plan, number, made, stores, keeps_vision)
        made, looked = _looked_at(pipeline, plan, number, made, stores)
        rounds.append(looked)
        suspicious = warnings_of(rounds)
        repairs += bool(suspicious)
        _tell(pipeline, rounds, suspicious)
        scores = [one.validation for one in rounds if one.validation is not None]
        if not scores or scores[-1] == max(scores):
            best = made
        if out_of_patience(scores, settings["validation"]["patience"]):
            print(f"no better C for {settings['validation']['patience']} rounds: these were the last", flush=True)
            break
    return rounds, best, stores


def score(pipeline: Pipeline, made: Made, label: str = "") -> Row:
    """C on held-out real tracks."""
    return pipeline.stage(f"evaluate C{label}", evaluate, _checkpoint_of(made), **_scoring(pipeline))


def score_random(pipeline: Pipeline) -> Row:
    """Random actions on the same tracks, over all that the environment allows."""
    env = {**pipeline.settings["env"], "action_low": None, "action_high": None}
    return pipeline.stage("evaluate random", evaluate, {}, behaviour="uniform", env=env, **_scoring(pipeline))


def _scoring(pipeline: Pipeline) -> dict[str, Any]:
    settings = pipeline.settings
    seeded = {"seed": settings["seed"], "device": settings["device"]}
    return {**settings["evaluation"], **_vector(settings["env"]), **seeded}


def _check(settings: dict[str, Any]) -> None:
    if settings["rounds"] < 1:
        raise UserError(f"rounds={settings['rounds']} makes nothing; set rounds=1 or more")
    if settings["world"] not in ("dream", "latent"):
        raise UserError(f"unknown world {settings['world']!r}; choose dream or latent")
    for place in ("again", "last"):
        if strange := set(settings[place]) - set(ROUND):
            raise UserError(f"{place}.{strange.pop()} is unknown; {place} has {', '.join(ROUND)}")
    check_repairs(settings["guard"]["repair"])
    patience = settings["validation"]["patience"]
    if patience is not None and patience < 1:
        raise UserError(f"validation.patience={patience} waits for nothing; set 1 or more, or null")
    if patience is not None and not settings["validation"]["episodes"]:
        raise UserError("validation.patience waits for scores; set validation.episodes as well")
    pick_device(settings["device"])


def _check_rivals(settings: dict[str, Any]) -> None:
    if needs_rivals(settings) and (settings["guard"]["rivals"] < 1 or settings["world"] != "dream"):
        raise UserError(
            "doubt and an ensemble need rivals of M in a dream; set guard.rivals=2 and world=dream, or "
            "controller.doubt=0 and controller.ensemble=false"
        )
    if settings["controller"]["ensemble"] and (settings["controller"]["doubt"] or doubts_later(settings)):
        raise UserError(
            "rivals of M either dream themselves or cast doubt; set controller.ensemble=false, or controller.doubt=0 "
            "and guard.repair without disagreement"
        )


def needs_rivals(settings: dict[str, Any]) -> bool:
    """Whether C's dreams have rivals of M in them by these settings, or may have once a guard answers."""
    return dreams_with_rivals(settings["controller"]) or doubts_later(settings)


def doubts_later(settings: dict[str, Any]) -> bool:
    """Whether a guard may answer with doubt."""
    return "disagreement" in settings["guard"]["repair"]


def dreams_with_rivals(controller: dict[str, Any]) -> bool:
    """Whether C learns in a dream that several M's have a say in. controller: its settings."""
    return bool(controller["doubt"] or controller["ensemble"])


def _vector(env: dict[str, Any]) -> dict[str, Any]:
    return {"num_envs": env["num_envs"], "asynchronous": env["asynchronous"]}


def _checkpoint_of(made: Made) -> Inputs:
    return {"checkpoint": made.controller, "vision": made.vision, "memory": made.memory}


def _label(pipeline: Pipeline, number: int) -> str:
    return f" {number + 1}" if pipeline.settings["rounds"] > 1 else ""


def _one_round(
    pipeline: Pipeline, plan: dict[str, Any], number: int, before: Made, stores: list[Path], keeps_vision: bool
) -> Made:
    """Collect, V (unless it is kept), M, C; the round's store is appended to `stores`."""
    made = world_model(pipeline, plan, number, before, stores, keeps_vision)
    learning = {**plan["controller"], "policy": pipeline.settings["policy"], "algo": plan["algo"]}
    return learn(pipeline, made, learning, before.controller, _label(pipeline, number))


def world_model(
    pipeline: Pipeline, plan: dict[str, Any], number: int, before: Made, stores: list[Path], keeps_vision: bool = False
) -> Made:
    """Collect, V (unless it is kept), M, and rivals of it where C's dreams may have some; the round's store is appended
    to `stores`."""
    settings, label = pipeline.settings, _label(pipeline, number)
    stores.append(gather(pipeline, f"collect{label}", plan["collect"], number, before.controller))
    vision = before.vision
    if not keeps_vision:
        row = train_vision(pipeline, f"V{label}", plan["vision"], stores, vision)
        vision = Path(row.artefacts["checkpoint"])
    assert vision is not None, "only a V of before is kept"
    row = train_memory(pipeline, f"M{label}", plan["memory"], stores, vision, before.memory)
    rivals = []
    # from the first round on, where doubt may come later: rivals that have learned less than M differ everywhere
    for rank in range(settings["guard"]["rivals"]) if needs_rivals({**settings, **plan}) else ():
        continued = before.rivals[rank] if before.rivals else None
        name, other = f"rival of M{label}, {rank + 1}", RIVAL_SEEDS * (rank + 1)
        rival = train_memory(pipeline, name, plan["memory"], stores, vision, continued, other)
        rivals.append(Path(rival.artefacts["checkpoint"]))
    return Made(vision, Path(row.artefacts["checkpoint"]), rivals=tuple(rivals))


def gather(
    pipeline: Pipeline, label: str, section: dict[str, Any], number: int = 0, controller: Path | None = None
) -> Path:
    """The store of round `number`, counted from 0. section: the settings of the collection."""
    settings = pipeline.settings
    # each round has seeds and a store of its own, named by what it is made from: a changed plan meets an empty one
    given = section["checkpoint"]
    inputs: Inputs = {"checkpoint": controller or (Path(given) if given else None)}
    collecting = {name: value for name, value in section.items() if name != "checkpoint"}
    collecting |= {"env": settings["env"], "seed": settings["seed"] + 10_000 * number, "device": settings["device"]}
    name = f"{pipeline.name}_{number + 1}_{key_of('collect', inputs, collecting)[:8]}"
    store = str(Path(settings["data"]) / "rollouts" / name)
    row = pipeline.stage(label, collect, inputs, **collecting, store=store, complete=True)
    return Path(row.artefacts["store"])


def train_vision(
    pipeline: Pipeline, label: str, section: dict[str, Any], stores: list[Path], continued: Path | None = None
) -> Row:
    """V on these stores. section: its settings."""
    inputs: Inputs = {"stores": list(stores), "continue_from": continued}
    seeded = {"seed": pipeline.settings["seed"], "device": pipeline.settings["device"]}
    return pipeline.stage(label, train_vae, inputs, **section, **seeded)


def train_memory(
    pipeline: Pipeline,
    label: str,
    section: dict[str, Any],
    stores: list[Path],
    vision: Path,
    continued: Path | None = None,
    other: int = 0,
) -> Row:
    """M on these stores as V sees them. section: its settings; other: what is added to the seed."""
    settings = pipeline.settings
    inputs: Inputs = {"stores": list(stores), "vision": vision, "continue_from": continued}
    training = {**section, "latents": str(Path(settings["data"]) / "latents")}
    seeded = {"seed": settings["seed"] + other, "device": settings["device"]}
    return pipeline.stage(label, train_mdnrnn, inputs, **training, **seeded)


def learn(pipeline: Pipeline, made: Made, learning: dict[str, Any], continued: Path | None, label: str) -> Made:
    """`made` with C of the pipeline's world. learning: the settings of the controller, its policy and its algorithm."""
    settings = pipeline.settings
    inputs: Inputs = {"vision": made.vision, "memory": made.memory, "continue_from": continued}
    if dreams_with_rivals(learning):
        inputs["rivals"] = list(made.rivals)
    learning = {**learning, "world": settings["world"], **_vector(settings["env"])}
    where = "C in the dream" if settings["world"] == "dream" else "C in the latent world"
    seeded = {"seed": settings["seed"], "device": settings["device"]}
    row = pipeline.stage(f"{where}{label}", train_controller, inputs, **learning, **seeded)
    snapshots = sorted(Path(path) for name, path in row.artefacts.items() if name.startswith("snapshot_"))
    return made._replace(controller=Path(row.artefacts["checkpoint"]), snapshots=tuple(snapshots))


def _looked_at(
    pipeline: Pipeline, plan: dict[str, Any], number: int, made: Made, stores: list[Path]
) -> tuple[Made, Round]:
    """C on validation tracks and in the dream, as far as the settings ask for it; of C's snapshots the best one."""
    settings = pipeline.settings
    env, seed, device, label = settings["env"], settings["seed"], settings["device"], _label(pipeline, number)
    found: dict[str, float] = {}
    horizon = plan["controller"]["horizon"]
    if settings["validation"]["episodes"]:
        looking = {"split": "validation", "episodes": settings["validation"]["episodes"], "stock": False}
        looking |= {**_vector(env), "seed": seed, "device": device}
        played = []
        several = {f", {path.stem}": made._replace(controller=path) for path in made.snapshots}
        for name, one in (several or {"": made}).items():
            row = pipeline.stage(f"{VALIDATION}{label}{name}", evaluate, _checkpoint_of(one), **looking)
            played.append((one, row))
        # of equals the one that learned longer
        made, row = max(reversed(played), key=lambda pair: pair[1].scores["mean"])
        found |= {"validation": row.scores["mean"], "real_reward": expected(_validated(row), horizon)}
    if settings["world"] == "dream" and settings["guard"]["dreams"]:
        dreaming = {"horizon": horizon, "temperature": plan["controller"]["temperature"]}
        inputs: Inputs = {"checkpoint": made.controller, "memory": made.memory}
        dreams = settings["guard"]["dreams"]
        row = pipeline.stage(
            f"dream of C{label}", score_dream, inputs, dreams=dreams, **dreaming, seed=seed, device=device
        )
        found["dream_reward"] = row.scores["mean"] / horizon
        found["payable"] = payable(_paid(pipeline, stores), horizon)
    frames = sum(row.scores.get("frames", 0) + row.scores.get("env_steps", 0) for row in pipeline.rows)
    return made, Round(number + 1, int(frames), sum(row.seconds for row in pipeline.rows), horizon=horizon, **found)


def _paid(pipeline: Pipeline, stores: Sequence[Path]) -> Iterator[Paid]:
    """Each real episode so far: those of the stores, and those that validated."""
    for folder in stores:
        store = RolloutStore.open(folder)
        for entry in store.entries:
            episode = store.read(entry)
            yield Paid(episode.reward, episode.terminated)
    for row in pipeline.rows:
        if row.stage.startswith(VALIDATION):
            yield from _validated(row)


def _validated(row: Row) -> Iterator[Paid]:
    """The episodes of one validation."""
    scores = json.loads(Path(row.artefacts["scores"]).read_text())
    # files of an earlier version have no rewards: the mean of an episode for each of its steps
    means = [np.full(steps, total / steps) for total, steps in zip(scores["returns"], scores["steps"])]
    for reward, terminated in zip(scores.get("rewards", means), scores["terminated"]):
        yield Paid(np.asarray(reward), terminated)


def _tell(pipeline: Pipeline, rounds: list[Round], suspicious: list[str]) -> None:
    """Print the last round's figures and what is suspicious about them, and log all rounds."""
    last = rounds[-1]
    figures = {name: value for name, value in {**last._asdict(), "gap": last.gap}.items() if value is not None}
    print("round " + ", ".join(f"{name} {value:,.5g}" for name, value in figures.items()), flush=True)
    for warning in suspicious:
        print(f"warning: {warning}", flush=True)
    write_json(pipeline.path.with_name("rounds.json"), [{**one._asdict(), "gap": one.gap} for one in rounds])


def report(rows: list[Row]) -> None:
    """Print what each stage did, and C beside the random policy."""
    table = Table("stage", "seconds", "samples/s", "key metric")
    table.add_column("artefacts", overflow="fold")  # a path that is cut short is of no use
    for row in rows:
        seconds = f"{row.seconds:.0f}" + (" (kept)" if row.resumed else "")
        rate = f"{figure(row.samples / row.seconds)} {row.unit}"
        table.add_row(row.stage, seconds, rate, row.metric, "\n".join(row.artefacts.values()))
    total = sum(row.seconds for row in rows if not row.resumed)
    # a pipe has no width of its own; 80 columns would fold every path
    console = Console() if Console().is_terminal else Console(width=200)
    console.print(table)
    console.print(f"{total:.0f} seconds in all", highlight=False)
    by_stage = {row.stage: row for row in rows}
    trained, random = by_stage["evaluate C"], by_stage["evaluate random"]
    console.print("real return on the same held-out tracks, mean ± sd:", highlight=False)
    console.print(f"  C             {trained.metric}\n  random policy {random.metric}", highlight=False)
