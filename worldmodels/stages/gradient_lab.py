"""The laboratory: what theory says of policy-gradient estimators, measured where ∇J is known exactly.

The policy is a softmax over a table θ [S, A], so that ∇log π(a|s) is one-hot(a) − π(·|s) in row s; an episode has at
most `horizon` steps, at which the task ends. All in fp64.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..envs.make import versions
from ..errors import UserError
from ..evaluation.plots import canvas
from ..policy_gradient.estimators import Estimator
from ..tabular.mdp import TabularMDP, laboratory
from ..tracking import Progress, Run, StageResult
from ..types import Trajectory

LEARNED = 10_000  # estimates made where the baseline is learned from each batch


class Trial(NamedTuple):
    """An estimator under test."""

    name: str
    estimator: Estimator
    unbiased: bool  # by theory
    value: str = "exact"  # which V it is given: exact, or wrong (the exact one plus a fixed error)


class Point(NamedTuple):
    """Of estimates from `episodes` episodes each: distance of their mean from ∇J, and their variance about it."""

    episodes: int
    bias: float  # ‖mean − ∇J‖
    bias_error: float  # its standard error, the length of the mean's standard errors
    variance: float  # trace of the covariance
    variance_low: float  # 95 % interval
    variance_high: float


TRIALS = [
    Trial("total return", Estimator("total", "none", 1.0), True),
    Trial("total return − b(s)", Estimator("total", "value", 1.0), True),
    Trial("reward-to-go", Estimator("reward_to_go", "none", 1.0), True),
    Trial("reward-to-go − batch mean", Estimator("reward_to_go", "mean", 1.0), False),
    Trial("total return − optimal b", Estimator("total", "optimal", 1.0), False),
    Trial("reward-to-go − V(s)", Estimator("reward_to_go", "value", 1.0), True),
    Trial("reward-to-go − wrong V(s)", Estimator("reward_to_go", "value", 1.0), True, "wrong"),
    Trial("discounted reward-to-go, γ = 0.8", Estimator("reward_to_go", "none", 0.8), False),
    Trial("2 steps, then V", Estimator("n_step", "value", 1.0, lookahead=2), True),
    Trial("2 steps, then a wrong V", Estimator("n_step", "value", 1.0, lookahead=2), False, "wrong"),
    Trial("GAE(0.9) with V", Estimator("gae", "value", 1.0, 0.9), True),
    Trial("GAE(0.9) with a wrong V", Estimator("gae", "value", 1.0, 0.9), False, "wrong"),
]


class Findings(NamedTuple):
    """What an estimator turned out to be."""

    points: list[Point]  # one for each size of an estimate
    used: list[int]  # episodes, ever more of them
    distance: list[float]  # of the mean of all estimates from so many episodes, from ∇J
    expected: list[float]  # what it would be, were there no bias: √(variance / estimates)


class Laboratory:
    """An MDP, a softmax policy and a horizon, with J and ∇J by dynamic programming."""

    def __init__(self, mdp: TabularMDP, horizon: int = 4, seed: int = 0):
        self.mdp, self.horizon = mdp, horizon
        generator = torch.Generator().manual_seed(seed)
        self.theta = 0.5 * torch.randn(mdp.states, mdp.actions, generator=generator, dtype=torch.float64)
        self.policy = torch.softmax(self.theta, 1)
        self.values = self._values(self.theta).detach()  # f64 [H + 1, S]
        error = torch.randn(mdp.states, generator=generator, dtype=torch.float64)
        self.wrong = self.values + 2 * error * (self.values != 0)

    def objective(self, theta: Tensor) -> Tensor:
        """J(θ) = E[Σ rₜ]: scalar."""
        return torch.from_numpy(self.mdp.start) @ self._values(theta)[0]

    def gradient(self) -> Tensor:
        """∇J f64 [S, A], by differentiating the dynamic programme: no estimator has a part in it."""
        theta = self.theta.clone().requires_grad_(True)
        return torch.autograd.grad(self.objective(theta), theta)[0]

    def _values(self, theta: Tensor) -> Tensor:
        policy = torch.softmax(theta, 1)
        reward, onward = torch.from_numpy(self.mdp.expected_reward()), torch.from_numpy(self.mdp.onward())
        values = [torch.zeros(self.mdp.states, dtype=torch.float64)]
        for _ in range(self.horizon):
            values.append((policy * (reward + onward @ values[-1])).sum(1))
        return torch.stack(values[::-1])

    def enumerate(self) -> tuple[Trajectory, Tensor]:
        """Every way an episode can go, and its probability: Trajectory [H, N], f64 [N]."""
        choices = list(itertools.product(range(self.mdp.actions), range(self.mdp.probability.shape[2])))
        ways = np.array(list(itertools.product(range(self.mdp.states), *[range(len(choices))] * self.horizon)))
        start = torch.from_numpy(ways[:, 0])
        picked = torch.tensor(choices)[torch.from_numpy(ways[:, 1:]).T]
        trajectory, chance = self._walk(start, lambda t, state: (picked[t, :, 0], picked[t, :, 1]))
        # after an end all continuations are the same episode: keep those whose idle choices are the first
        idle = (~trajectory.valid & (torch.from_numpy(ways[:, 1:]).T > 0)).any(0)
        kept = ~idle & (chance > 0)
        return Trajectory(*(part[:, kept] for part in trajectory)), chance[kept]

    def sample(self, episodes: int, generator: torch.Generator) -> Trajectory:
        """Trajectory [H, N] of independent episodes."""
        start = torch.multinomial(torch.from_numpy(self.mdp.start), episodes, True, generator=generator)
        probability = torch.from_numpy(self.mdp.probability)

        def draw(weights: Tensor) -> Tensor:
            uniform = torch.rand(episodes, 1, generator=generator, dtype=torch.float64)
            return (uniform > weights.cumsum(1)).sum(1).clamp(max=weights.shape[1] - 1)

        def choose(_: int, state: Tensor) -> tuple[Tensor, Tensor]:
            action = draw(self.policy[state])
            return action, draw(probability[state, action])

        return self._walk(start, choose)[0]

    def _walk(self, state: Tensor, choose) -> tuple[Trajectory, Tensor]:
        tables = [torch.from_numpy(np.ascontiguousarray(part)) for part in self.mdp[:4]]
        probability, following, rewards, ends = tables
        chance = torch.from_numpy(self.mdp.start)[state].clone()
        alive = torch.ones(len(state), dtype=torch.bool)
        rows = []
        for t in range(self.horizon):
            action, outcome = choose(t, state)
            at = (state, action, outcome)
            chance = torch.where(alive, chance * self.policy[state, action] * probability[at], chance)
            ended = ends[at] | torch.tensor(t == self.horizon - 1)
            nothing = torch.zeros_like(chance)
            rows.append((state, action, rewards[at], ended, torch.zeros_like(ended), nothing, alive))
            alive, state = alive & ~ended, following[at]
        return Trajectory(*(torch.stack(column) for column in zip(*rows, strict=True))), chance

    def score(self, trajectory: Trajectory) -> Tensor:
        """∇log π(aₜ|sₜ) of each step, 0 where it is not valid: f64 [H, N, S, A]."""
        states = torch.nn.functional.one_hot(trajectory.state, self.mdp.states).double()
        actions = torch.nn.functional.one_hot(trajectory.action, self.mdp.actions).double()
        away = (actions - self.policy[trajectory.state]) * trajectory.valid[..., None]
        return states[..., None] * away[..., None, :]

    def estimates(self, trial: Trial, trajectory: Trajectory, score: Tensor | None = None) -> Tensor:
        """ĝ of each episode, f64 [N, S, A]; what a baseline learns from the batch it learns from all N."""
        score = self.score(trajectory) if score is None else score
        values = self.values if trial.value == "exact" else self.wrong
        norms = score.sum(0).flatten(1).square().sum(1).expand_as(trajectory.reward)
        weight, _ = trial.estimator(trajectory, values[:-1].gather(1, trajectory.state), norms)
        return torch.einsum("tn,tnsa->nsa", weight, score)


def measure(
    lab: Laboratory, trials: list[Trial], sizes: list[int], budget: int, seed: int, progress: Progress
) -> dict[str, Findings]:
    """By trial, a Point for each size: estimates are made until `budget` episodes are used, the same for all trials.

    A baseline that is learned from its batch makes each estimate a computation of its own: LEARNED of them must do.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[tuple[str, int], list[Tensor]] = {(trial.name, size): [] for trial in trials for size in sizes}
    at_once = max(sizes) * max(1, 20_000 // max(sizes))
    for _ in range(budget // at_once):
        trajectory = lab.sample(at_once, generator)
        score = lab.score(trajectory)
        for trial in trials:
            if trial.estimator.baseline not in ("mean", "optimal"):
                each = lab.estimates(trial, trajectory, score)
                for size in sizes:
                    found[trial.name, size].append(each.unflatten(0, (-1, size)).mean(1))
                continue
            for size in sizes:
                quota = -(-LEARNED * at_once // budget)
                for first in range(0, min(quota, at_once // size) * size, size):
                    part = Trajectory(*(x[:, first : first + size] for x in trajectory))
                    each = lab.estimates(trial, part, score[:, first : first + size])
                    found[trial.name, size].append(each.mean(0, keepdim=True))
        progress.advance(at_once)
    exact = lab.gradient().flatten()
    return {
        trial.name: _findings(sizes, [torch.cat(found[trial.name, size]).flatten(1) for size in sizes], exact)
        for trial in trials
    }


def _findings(sizes: list[int], estimates: list[Tensor], exact: Tensor) -> Findings:
    points = []
    for size, found in zip(sizes, estimates, strict=True):
        away = (found - found.mean(0)).square().sum(1)
        variance, spread = float(away.sum() / (len(found) - 1)), float(1.96 * away.std() / len(found) ** 0.5)
        bias = float((found.mean(0) - exact).norm())
        points.append(Point(size, bias, (variance / len(found)) ** 0.5, variance, variance - spread, variance + spread))
    counts = np.unique(np.geomspace(10, len(estimates[0]), 24).astype(int))
    means = estimates[0].cumsum(0)[counts - 1] / torch.from_numpy(counts)[:, None]
    expected = (points[0].variance / counts) ** 0.5
    distance = (means - exact).norm(dim=1)
    return Findings(points, (counts * sizes[0]).tolist(), distance.tolist(), expected.tolist())


def gradient_lab(run: Run, budget: int, sizes: list[int], seed: int, device: str = "cpu") -> StageResult:
    """Bias and variance of every estimator against the number of episodes; a table, `lab.json` and a picture.

    budget: episodes in all; sizes: episodes of one estimate. Tables need no `device`.
    """
    if not sizes or min(sizes) < 1 or budget < 20_000 or any(max(sizes) % size for size in sizes):
        raise UserError(f"lab.sizes={sizes} must divide the largest of them, and lab.budget={budget} be 20,000 or more")
    if max(sizes) > 20_000:
        raise UserError(f"lab.sizes={sizes} must not be above 20,000")
    lab = Laboratory(laboratory())
    run.begin("laboratory", {}, versions())
    with Progress("laboratory", budget, "episodes") as progress:
        table = measure(lab, TRIALS, sizes, budget, seed, progress)
    exact = float(lab.gradient().norm())
    print(f"∇J has length {exact:.3f}. Bias in standard errors of its measurement, variance at {sizes[0]} episodes:")
    for trial in TRIALS:
        first = table[trial.name].points[0]
        claim = "unbiased" if trial.unbiased else "biased"
        print(
            f"{trial.name:34} {claim:9} bias {first.bias:.4f} = {first.bias / first.bias_error:5.1f} s.e.  "
            f"variance {first.variance:8.3f} ({first.variance_low:.3f} to {first.variance_high:.3f})"
        )
    path, picture = run.folder / "lab.json", run.folder / "lab.png"
    content = {
        name: {**found._asdict(), "points": [point._asdict() for point in found.points]}
        for name, found in table.items()
    }
    path.write_text(json.dumps({"gradient": exact, "trials": content}, indent=1) + "\n")
    draw(picture, table)
    return StageResult(
        budget,
        "episodes",
        f"{len(TRIALS)} estimators on {budget:,} episodes",
        {"table": path, "picture": picture},
        {name: found.points[0].variance for name, found in table.items()},
    )


def draw(path: Path, table: dict[str, Findings]) -> None:
    """Left, how the mean estimate approaches ∇J; right, the variance of one; all axes logarithmic."""
    pyplot = canvas()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5.2), layout="constrained")
    unbiased = {trial.name for trial in TRIALS if trial.unbiased}
    colors = pyplot.get_cmap("tab20").colors  # pyright: ignore[reportAttributeAccessIssue]
    for (name, found), color in zip(table.items(), colors, strict=False):
        style = "-" if name in unbiased else "--"
        left.plot(found.used, found.distance, style, color=color, label=name)
        left.plot(found.used, found.expected, ":", color=color, lw=0.8, alpha=0.6)
        sizes = [point.episodes for point in found.points]
        right.plot(sizes, [point.variance for point in found.points], style, color=color, marker="o", ms=3)
        lows, highs = ([getattr(point, end) for point in found.points] for end in ("variance_low", "variance_high"))
        right.fill_between(sizes, lows, highs, color=color, alpha=0.25)
    left.set(xscale="log", yscale="log", xlabel="episodes used in all", ylabel="distance of the mean from ∇J")
    left.set_title("bias: dashed level off; dotted, chance alone")
    right.set(xscale="log", yscale="log", xlabel="episodes of an estimate", ylabel="variance (trace)")
    right.set_title("variance, with 95 % bands")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
