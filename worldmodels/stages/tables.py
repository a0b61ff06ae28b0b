"""What results/ holds, as the tables of README and docs/ and as the content of their pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..evaluation.statistics import Correlation, ended_by, summarize

WITHOUT_MEMORY = ("CarRacing-v3, what C sees", "CarRacing-v3 with black frames, what C sees")
TASKS = (
    "CartPole-v1",
    "LunarLander-v3",
    "LunarLander-v3, continuous",
    "Pendulum-v1",
    "Pong",
    "CarRacing-v3",
    *WITHOUT_MEMORY,
)


def studies(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Every study in results/studies by its task, tasks in the order of TASKS."""
    found: dict[str, list[dict[str, Any]]] = {task: [] for task in TASKS}
    for path in sorted((root / "results" / "studies").glob("*.json")):
        study = json.loads(path.read_text())
        if study["task"] not in found:
            raise UserError(f"{path} has the unknown task {study['task']!r}; known are {', '.join(TASKS)}")
        found[study["task"]].append(study)
    return {task: own for task, own in found.items() if own}


def is_model_free(study: dict[str, Any]) -> bool:
    return not study["settings"].get("rounds")


def model_free(root: Path) -> str:
    """One line for each model-free study: the mean of each seed's evaluation, and what they come to."""
    columns = ("task", "algorithm", "env steps", "mean of each seed", "mean ± sd of seeds", "95 % of the mean")
    rows = []
    for task, own in studies(root).items():
        for study in filter(is_model_free, own):
            seeds, means = _seeds(study)
            found = summarize(means)
            steps = max(seed["env_steps"] for seed in seeds)
            interval = f"{found.low:.0f} to {found.high:.0f}" if len(means) > 1 else "one seed"
            spread = f"{found.mean:.1f} ± {found.sd:.1f}"
            rows.append((task, study["title"], f"{steps:,}", _each(means), spread, interval, *_target(study)))
    return _table((*columns, "target", "minutes a seed, on"), rows)


# what others have reported on CarRacing over 100 random tracks: who, real frames, mean ± sd, interquartile mean, time
UNKNOWN = "–"
PUBLISHED = (
    (
        "Ha & Schmidhuber 2018 (arXiv 1803.10122): full world model, CMA-ES",
        "1.7 billion",
        "906 ± 21",
        "",
        "46 days, 64 workers (the authors' log)",
    ),
    ("the same, V alone", UNKNOWN, "632 ± 251", "", UNKNOWN),
    ("the same, V alone, C with a hidden layer", UNKNOWN, "788 ± 141", "", UNKNOWN),
    (
        "[ctallec/world-models](https://ctallec.github.io/world-models/), the best public reproduction in PyTorch",
        UNKNOWN,
        "860 ± 120",
        "",
        UNKNOWN,
    ),
    ("best public C of the dream alone, three drivers", UNKNOWN, "", "710", UNKNOWN),
    ("A3C, discrete actions (as the paper cites it)", UNKNOWN, "652 ± 10", "", UNKNOWN),
    ("A3C, continuous actions (as the paper cites it)", UNKNOWN, "591 ± 45", "", UNKNOWN),
    ("DQN (as the paper cites it)", UNKNOWN, "343 ± 18", "", UNKNOWN),
)


def world_models(root: Path) -> str:
    """One line for each study of CarRacing, world models first, and what has been published."""
    own = sorted(studies(root).get("CarRacing-v3", []), key=is_model_free)
    rows = [_scored(study) for study in own]
    rows += [(who, frames, "", score, middle, "", time) for who, frames, score, middle, time in PUBLISHED]
    return _table(("CarRacing-v3, stock", *SCORED), rows)


def what_c_sees(root: Path) -> str:
    """A table for each task of WITHOUT_MEMORY: the same C with and without M."""
    found = studies(root)
    return "\n\n".join(
        _table((task, *SCORED), [_scored(study) for study in found[task]]) for task in WITHOUT_MEMORY if task in found
    )


SCORED = (
    "real frames",
    "mean of each seed",
    "mean ± sd of seeds",
    "interquartile mean, 95 %",
    "target",
    "minutes a seed, on",
)


def _scored(study: dict[str, Any]) -> tuple[str, ...]:
    seeds, means = _seeds(study)
    found = summarize(means)
    frames = max(seed["env_steps"] for seed in seeds)
    interval = f"{found.iqm:.0f} ({found.iqm_low:.0f} to {found.iqm_high:.0f})" if len(means) > 1 else "one seed"
    over_tracks = np.std([value for seed in seeds for value in seed["returns"]], ddof=1)
    alone = f"{found.mean:.0f} (its tracks ± {over_tracks:.0f})"
    spread = f"{found.mean:.0f} ± {found.sd:.0f}" if len(means) > 1 else alone
    return study["title"], f"{frames:,}", _each(means), spread, interval, *_target(study)


# the paper's TakeCover: C by CMA-ES in the dream of that temperature, 100 episodes in it and for real; None: random
PUBLISHED_TEMPERATURES = {
    0.1: ("2086 ± 140", "193 ± 58"),
    0.5: ("2060 ± 277", "196 ± 50"),
    1.0: ("1145 ± 690", "868 ± 511"),
    1.15: ("918 ± 546", "1092 ± 556"),
    1.3: ("732 ± 269", "753 ± 139"),
    None: ("", "210 ± 108"),
}


def comparisons(root: Path, folder: str) -> list[dict[str, Any]]:
    """All of results/`folder`, one of PLOTS."""
    return [json.loads(path.read_text()) for path in sorted((root / "results" / folder).glob("*.json"))]


def temperatures(root: Path) -> str:
    """A table for each sweep: what C earns in its dream and for real, mean ± sd over episodes."""
    tables = []
    for sweep in comparisons(root, "temperatures"):
        found = {(one["learner"], one["temperature"]): one for one in sweep["controllers"]}
        learners = list(dict.fromkeys(name for name, _ in found))
        published = PUBLISHED_TEMPERATURES if "TakeCover" in sweep["task"] else {}
        columns = [f"{sweep['task']}, τ", *(f"{name}, {where}" for name in learners for where in ("dream", "real"))]
        rows = []
        for temperature in sorted({temperature for _, temperature in found}):
            cells = [
                _spread(found[name, temperature][where]) if (name, temperature) in found else ""
                for name in learners
                for where in ("dream", "real")
            ]
            rows.append((f"{temperature:g}", *cells, *(published.get(temperature, ("", "")) if published else ())))
        paper = published[None] if published else ()
        rows.append(("random play", *("", _spread(sweep["random"])) * len(learners), *paper))
        tables.append(_table((*columns, *(("paper, dream", "paper, real") if published else ())), rows))
    return "\n\n".join(tables)


def worlds(root: Path) -> str:
    """A line for each comparison of dream and world: how far the controllers differ, and whether the dream knows it."""
    rows = []
    for comparison in comparisons(root, "worlds"):
        spans = []
        for where in ("dream", "real"):
            means = [np.mean(one[where]) for one in comparison["controllers"]]
            spans.append(f"{min(means):.0f} to {max(means):.0f}")
        found = Correlation(**comparison["rank_correlation"])
        rows.append((comparison["task"], comparison["name"], str(len(comparison["controllers"])), *spans, str(found)))
    columns = ("task", "V and M of preset", "controllers", "dream return", "real return", "rank correlation")
    return _table(columns, rows)


def visions(root: Path) -> str:
    """A table for each comparison of V's, over held-out frames."""
    columns = ("parameters", "mean squared error", "KL in nats", "active units", "minutes")
    tables = []
    for comparison in comparisons(root, "visions"):
        rows = [
            (
                name,
                f"{found['parameters']:,}",
                f"{found['mse']:.5f}",
                f"{found['kl']:.1f}",
                f"{found['active_units']} of {found['latent_dim']}",
                f"{found['seconds'] / 60:.1f}",
            )
            for name, found in comparison["variants"].items()
        ]
        tables.append(_table((f"{comparison['task']}, V", *columns), rows))
    return "\n\n".join(tables)


def memories(root: Path) -> str:
    """A table for each comparison of M's, over held-out windows; the last line is what needs no M."""
    tables = []
    for comparison in comparisons(root, "memories"):
        variants = comparison["variants"]
        some = next(iter(variants.values()))
        after = f"after {', '.join(map(str, some['steps']))} steps"
        columns = ("parameters", "nats per latent", "one Gaussian", "inside 50 %, 90 %")
        rows = [
            (
                name,
                f"{found['parameters']:,}",
                f"{found['nll']['mixture']:.3f}",
                f"{found['nll']['one_gaussian']:.3f}",
                ", ".join(f"{100 * share:.1f}" for share in found["calibration"]["coverage"]),
                _in_turn(found["left_alone"]["reward_error"], 2),
                _in_turn(found["left_alone"]["pixel_error"], 4),
            )
            for name, found in variants.items()
        ]
        alone = some["left_alone"]
        guesses = (_in_turn(alone["reward_variance"], 2), _in_turn(alone["pixel_error_of_last_frame"], 4))
        rows.append(("as before; rewards: their mean", "", f"{some['nll']['as_before']:.3f}", "", "", *guesses))
        errors = (f"reward error {after}", f"pixel error {after}")
        tables.append(_table((f"{comparison['task']}, M", *columns, *errors), rows))
    return "\n\n".join(tables)


def rounds(root: Path) -> str:
    """A line for each seed whose C was looked at in both worlds: what a step pays after each round, in the dream and
    really."""
    rows = []
    for study, number, seed in _in_both_worlds(root):
        pairs = [f"{one['dream_reward']:.2f}, {one['real_reward']:.2f}" for one in seed["rounds"]]
        rows.append((f"{study['title']}, seed {number}", *pairs))
    most = max((len(row) for row in rows), default=1)
    filled = [(*row, *[""] * (most - len(row))) for row in rows]
    return _table(("a step pays in the dream, really", *(f"round {n}" for n in range(1, most))), filled)


def gaps(root: Path) -> dict[str, dict[str, Any]]:
    """For each of these studies, its seeds' `rounds`."""
    found: dict[str, dict[str, Any]] = {}
    for study, number, seed in _in_both_worlds(root):
        found.setdefault(study["title"], {})[number] = seed["rounds"]
    return found


def _in_both_worlds(root: Path) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Studies, numbers and seeds of which each round's C was scored in the dream and on validation tracks."""
    for own in studies(root).values():
        for study in own:
            for number, seed in study["seeds"].items():
                looked_at = [one[f"{where}_reward"] for one in seed.get("rounds", ()) for where in ("dream", "real")]
                if looked_at and None not in looked_at:
                    yield study, number, seed


def scores(root: Path) -> dict[str, dict[str, Any]]:
    """How far C of each study of CarRacing comes with its real frames, by mean actions.

    `tests`: (frames, mean return) of each seed on test tracks. `validations`, of a C of the dream: a list for each seed
    of the same, on validation tracks after each round.
    """
    found = {}
    for task in ("CarRacing-v3", WITHOUT_MEMORY[0]):
        for study in studies(root).get(task, ()):
            seeds, means = _seeds(study)
            validations = [
                [(one["frames"], one["validation"]) for one in seed.get("rounds", ()) if one["validation"] is not None]
                for seed in seeds
            ]
            title = study["title"] if task == "CarRacing-v3" else f"C on {study['title']}"
            found[title] = {
                "tests": [(seed["env_steps"], mean) for seed, mean in zip(seeds, means)],
                "validations": [each for each in validations if each],
            }
    return found


def ends(root: Path) -> str:
    """A line for the M of each sweep: one step ahead, and how many episodes have ended after some steps left alone."""
    rows, steps = [], [1, 10, 30, 100]
    for sweep in comparisons(root, "temperatures"):
        if found := sweep.get("memory"):
            shares = []
            for name in ("ended", "end_chance"):
                share = 100 * ended_by(found["ends"][name])
                shares.append(_in_turn([share[step - 1] for step in steps if step <= len(share)], 0))
            inside = _in_turn([100 * share for share in found["calibration"]["coverage"]], 1)
            nats = (f"{found['nll'][name]:.3f}" for name in ("mixture", "one_gaussian", "as_before"))
            rows.append((f"{sweep['task']}, {found['parameters']:,} parameters", *nats, inside, *shares))
    after = f"% ended after {', '.join(map(str, steps))} steps"
    columns = ("M of", "nats per latent", "one Gaussian", "as before", "inside 50 %, 90 %", after, "M, left alone")
    return _table(columns, rows)


def _in_turn(values: list[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.0f} ± {np.std(values, ddof=1):.0f}"


def _seeds(study: dict[str, Any]) -> tuple[list[dict[str, Any]], list[float]]:
    """What each seed has to show, and the means of their evaluations."""
    seeds = list(study["seeds"].values())
    return seeds, [float(np.mean(seed["returns"])) for seed in seeds]


def _each(means: list[float]) -> str:
    return ", ".join(f"{mean:.0f}" if abs(mean) >= 100 else f"{mean:.1f}" for mean in means)


def _target(study: dict[str, Any]) -> tuple[str, str]:
    """The target and whether it was missed; the minutes that seeds took on each machine, the fewest and the most."""
    seeds, means = _seeds(study)
    target = "report" if study["target"] is None else f"≥ {study['target']:g}"
    reached = min(means) if study["every_seed"] else np.mean(means)
    if study["target"] is not None and reached < study["target"]:
        target += ", missed"
    taken: dict[str, list[float]] = {}
    for seed in seeds:
        machine = re.sub(r"\(R\)| Processor", "", seed["processor"]).replace(", 1 cores", ", 1 core")
        machine = "a machine that was not recorded" if machine == "x86_64" else machine
        taken.setdefault(machine, []).append(seed["seconds"] / 60)
    return target, "; ".join(f"{_span(minutes)}, {machine}" for machine, minutes in taken.items())


def _span(values: list[float]) -> str:
    ends = dict.fromkeys(f"{value:.1f}" if value < 10 else f"{value:.0f}" for value in (min(values), max(values)))
    return " to ".join(ends)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
