"""Solve small MDPs, and show the values and the policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from ..envs.make import versions
from ..errors import UserError
from ..evaluation.plots import canvas
from ..tabular import learning, planning
from ..tabular.mdp import TabularMDP, from_gymnasium
from ..tracking import Progress, Run, StageResult

PLANNERS = {
    "value_iteration": planning.value_iteration,
    "q_value_iteration": planning.q_value_iteration,
    "policy_iteration": planning.policy_iteration,
}
PREDICTORS = {"monte_carlo": learning.sampled_policy_evaluation, "td0": learning.temporal_difference}
# what an action looks like, by environment
ARROWS = {"FrozenLake": "←↓→↑", "CliffWalking": "↑→↓←", "Taxi": "↓↑→←+−"}


class Layout(NamedTuple):
    """Where states lie: panels of one grid each."""

    names: list[str]  # of the panels
    states: np.ndarray  # i64 [panels, rows, columns]
    arrows: str  # one sign for each action
    closed: np.ndarray  # bool [S]: the start's agent never acts there


def solve_tabular(run: Run, env: dict[str, Any], algo: dict[str, Any], seed: int, device: str = "cpu") -> StageResult:
    """Values, a policy and a picture of both; `values.json` has the numbers. Tables need no `device`.

    algo: its `name`, one of PLANNERS, PREDICTORS (which evaluate the uniform policy) or q_learning, and its arguments.
    Raises UserError for an environment without a transition table.
    """
    algo = dict(algo)
    name = algo.pop("name")
    if name not in (*PLANNERS, *PREDICTORS, "q_learning"):
        raise UserError(f"unknown algo {name!r}; choose among {', '.join([*PLANNERS, *PREDICTORS, 'q_learning'])}")
    discount = algo["discount"]
    made = open_toy(env["id"], env["kwargs"])
    mdp = from_gymnasium(made)
    layout = layout_of(env["id"], made, mdp)
    planned = name in PLANNERS
    uniform = np.full((mdp.states, mdp.actions), 1 / mdp.actions)
    curve: list[float] = []
    if planned:
        solution = PLANNERS[name](mdp, **algo)
        q, policy, work, unit = solution.action_value, solution.policy, solution.sweeps, "sweeps"
        value = solution.value
        run.begin(env["id"], {}, versions())
    else:
        work, unit = algo["episodes"], "episodes"
        rounds: Iterator[Any]
        if name == "q_learning":
            truth = planning.value_iteration(mdp, discount).value
            rounds = learning.q_learning(mdp, seed=seed, **algo)
        else:
            truth = planning.policy_evaluation(mdp, uniform, discount)
            rounds = PREDICTORS[name](mdp, uniform, seed=seed, **algo)
        visited = reachable(mdp)
        found = next(rounds)
        run.begin(env["id"], {}, versions())
        with Progress(name, work, unit) as progress:
            while True:
                table = found[0].max(1) if name == "q_learning" else found
                curve.append(float(np.sqrt(np.mean((table - truth)[visited] ** 2))))
                progress.advance(error=curve[-1])
                if (following := next(rounds, None)) is None:
                    break
                found = following
        if name == "q_learning":
            q = found[0]
            value, policy = q.max(1), np.eye(mdp.actions)[q.argmax(1)]
        else:
            value, policy = found, uniform
            q = planning.action_values(mdp, value, discount)
    start = float(mdp.start @ value)
    print(as_text(layout, value, policy if name not in PREDICTORS else None))
    path = run.folder / "values.json"
    content = {"algo": {"name": name, **algo}, "start": start, "value": value.tolist(), "action_value": q.tolist()}
    path.write_text(json.dumps({**content, "policy": policy.tolist(), "error": curve}) + "\n")
    picture = run.folder / "values.png"
    draw(picture, layout, value, policy if name not in PREDICTORS else None, curve, f"{env['id']}, {name}")
    return StageResult(
        work,
        unit,
        f"value of the start {start:.4f} after {work:,} {unit}" + (f", error {curve[-1]:.4f}" if curve else ""),
        {"values": path, "picture": picture},
        {"start": start, **({"error": curve[-1]} if curve else {})},
    )


def open_toy(name: str, kwargs: dict[str, Any]) -> gymnasium.Env:
    try:
        return gymnasium.make(name, **kwargs)
    except (gymnasium.error.Error, TypeError) as error:
        raise UserError(f"cannot make {name!r} ({error}); choose env=frozenlake, cliffwalking or taxi") from error


def layout_of(name: str, env: gymnasium.Env, mdp: TabularMDP) -> Layout:
    """Grids for the toy-text environments; anything else is one row."""
    family = next((known for known in ARROWS if name.startswith(known)), None)
    unwrapped: Any = env.unwrapped
    names, states = [""], np.arange(mdp.states)
    if family == "FrozenLake":
        states = states.reshape(1, *unwrapped.desc.shape)
    elif family == "CliffWalking":
        states = states.reshape(1, *unwrapped.shape)
    elif family == "Taxi":  # state = ((row · 5 + column) · 5 + passenger) · 4 + destination
        states = states.reshape(5, 5, 5, 4).transpose(2, 3, 0, 1).reshape(20, 5, 5)
        places = ["red", "green", "yellow", "blue"]
        names = [f"{where} to {to}" for where in [*places, "in the taxi"] for to in places]
    else:
        states = states.reshape(1, 1, -1)
    signs = ARROWS[family] if family else "0123456789"[: mdp.actions]
    closed = ~reachable(mdp)
    shown = [number for number, panel in enumerate(states) if not closed[panel].all()]
    return Layout([names[number] for number in shown], states[shown], signs, closed)


def reachable(mdp: TabularMDP) -> np.ndarray:
    """States [S] in which something is decided, starting from where episodes start."""
    edges = mdp.onward().sum(1) > 0
    seen = mdp.start > 0
    while True:
        wider = seen | edges[seen].any(0)
        if (wider == seen).all():
            return seen
        seen = wider


def as_text(layout: Layout, value: np.ndarray, policy: np.ndarray | None) -> str:
    """The value table, and the policy as arrows; dots where nobody ever acts. Of many panels, the first."""
    lines = []
    grid = layout.states[0]
    if layout.names[0]:
        lines.append(f"{layout.names[0]} (the first of {len(layout.names)} panels, all in the picture):")
    for row in grid:
        lines.append(" ".join("      ." if layout.closed[s] else f"{value[s]:7.3f}" for s in row))
    if policy is not None:
        lines.append("")
        for row in grid:
            lines.append(" ".join("." if layout.closed[s] else layout.arrows[policy[s].argmax()] for s in row))
    return "\n".join(lines)


def draw(
    path: Path, layout: Layout, value: np.ndarray, policy: np.ndarray | None, curve: list[float], title: str
) -> None:
    """Each panel as a heat map with numbers and arrows; below, the error of a learner against its episodes."""
    pyplot = canvas()
    panels, rows, columns = layout.states.shape
    across = min(panels, 4)
    down = -(-panels // across)
    cell = 0.75 if panels == 1 else 0.5
    figure = pyplot.figure(
        figsize=(max(4.5, across * columns * cell + 0.6), down * (rows * cell + 0.4) + 0.6 + (2.4 if curve else 0)),
        layout="constrained",
    )
    figure.suptitle(title)
    top: Any = figure
    if curve:
        halves: Any = figure.subfigures(2, 1, height_ratios=[down * (rows * cell + 0.4), 2.4])
        top, below = halves
        axes: Any = below.subplots()
        axes.plot(np.arange(1, len(curve) + 1), curve, color="#2a6f97")
        axes.set(xlabel="episodes", ylabel="RMS error of the values", ylim=(0, None))
        axes.grid(alpha=0.3)
    shown = np.where(layout.closed, np.nan, value)
    low, high = np.nanmin(shown), np.nanmax(shown)
    grids: Any = top.subplots(down, across, squeeze=False)
    for axes, name, states in zip(grids.ravel(), layout.names, layout.states, strict=True):
        axes.imshow(shown[states], cmap="viridis", vmin=low, vmax=high)
        axes.set_title(name, fontsize=8)
        axes.set(xticks=[], yticks=[])
        for (y, x), s in np.ndenumerate(states):
            if layout.closed[s]:
                continue
            color = "white" if value[s] < (low + high) / 2 else "black"
            sign = "" if policy is None else f"\n{layout.arrows[policy[s].argmax()]}"
            axes.text(
                x, y, f"{value[s]:.3g}{sign}", ha="center", va="center", color=color, fontsize=7 if panels > 1 else 9
            )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
