"""Ours and the peer in turns within one run; the ratio of the medians is what counts."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from worldmodels.envs.make import processor
from worldmodels.rollouts.files import write_json

ROUNDS = 5
RESULTS = Path("results/benchmarks")


class Contest(NamedTuple):
    row: str  # number in the table
    work: str
    unit: str
    peer: str
    ours: Callable[[], float]  # one run: its rate in `unit` a second
    theirs: Callable[[], float]
    target: float  # the least ratio of medians
    limit: Callable[[], tuple[str, float]] | None = None  # what bounds ours, and its rate
    close: Callable[[], None] = lambda: None
    # what must not be bought with speed: its name, and figures of both sides, seed by seed
    quality: tuple[str, Callable[[], dict[str, list[float]]]] | None = None


def rate(work: Callable[[], int], seconds: float = 1.5) -> float:
    """Samples a second of `work`, called for about `seconds`."""
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        done += work()
    return done / (time.perf_counter() - started)


def compete(contest: Contest) -> dict:
    """ROUNDS interleaved runs of both, after one of each that does not count."""
    contest.ours(), contest.theirs()
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(contest.ours())
        theirs.append(contest.theirs())
    limit = contest.limit() if contest.limit else None
    quality = {contest.quality[0]: contest.quality[1]()} if contest.quality else None
    contest.close()
    return {
        "row": contest.row,
        "work": contest.work,
        "unit": contest.unit,
        "peer": contest.peer,
        "ours": ours,
        "theirs": theirs,
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "target": contest.target,
        "limit": limit,
        "quality": quality,
    }


def save(name: str, results: list[dict]) -> None:
    """Into results/benchmarks/NAME.json, with what the figures depend on; rows that were not run stay as they are."""
    packages = ("torch", "lightning", "gymnasium", "stable-baselines3", "torchrl", "envpool", "opencv-python-headless")
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "python": platform.python_version(),
        "versions": {package: found for package in packages if (found := _version(package))},
    }
    path = RESULTS / f"{name}.json"
    known = json.loads(path.read_text()) if path.exists() else {"results": []}
    rows = {(row["work"], row["peer"]): row for row in known["results"]}
    rows |= {(row["work"], row["peer"]): {**about, **row} for row in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"results": sorted(rows.values(), key=lambda row: row["row"])})


def _version(package: str) -> str | None:
    """None where it is not installed: a GPU's rows need no peers."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def show(results: list[dict]) -> None:
    table = Table(
        "#", "work", "ours (min–max)", "peer (min–max)", "ratio", "target", "limit, and our share of it; quality"
    )
    for result in results:
        sides = [
            f"{statistics.median(side):,.0f} ({min(side):,.0f}–{max(side):,.0f}) {result['unit']}/s"
            for side in (result["ours"], result["theirs"])
        ]
        missed = "" if result["ratio"] >= result["target"] else " missed"
        limit = ""
        if result["limit"]:
            name, bound = result["limit"]
            limit = f"{name} {bound:,.0f}: {statistics.median(result['ours']) / bound:.0%}"
        for name, sides_of in (result["quality"] or {}).items():
            ours, theirs = (statistics.mean(sides_of[side]) for side in ("ours", "theirs"))
            limit += f"{'; ' if limit else ''}{name}: {ours:.4g}, peer {theirs:.4g}"
        ratio, target = f"{result['ratio']:.2f}", f"≥ {result['target']:g}{missed}"
        table.add_row(result["row"], result["work"], sides[0], f"{result['peer']}: {sides[1]}", ratio, target, limit)
    console = Console()
    (console if console.is_terminal else Console(width=190)).print(table)
