"""C trained by CMA-ES (Hansen 2016, arXiv 1604.00772), the population played as one batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cma
import numpy as np
import torch

from ..errors import UserError
from ..worlds.protocol import World
from .networks import Controller


class Generation(NamedTuple):
    number: int
    best: float  # highest fitness: mean return of a member's episodes
    mean: float
    sigma: float
    steps: int  # of the world, all members and generations together


@torch.no_grad()
def fitness(
    world: World, controller: Controller, parameters: torch.Tensor, episodes: int, max_steps: int
) -> tuple[torch.Tensor, int]:
    """Mean return f32 [P] of each member over `episodes` episodes, and the steps of the world that were played.

    parameters: f32 [P, n]. All P · episodes wait in one line; a place whose episode ends takes the next of them.
    max_steps cuts what is earned; the place is free again when the world ends its episode, or all are done.
    """
    device = parameters.device
    waiting = torch.arange(len(parameters), device=device).repeat_interleave(episodes)
    total = torch.zeros(len(parameters), device=device)
    member = torch.zeros(world.batch, dtype=torch.long, device=device)
    alive = torch.zeros(world.batch, dtype=torch.bool, device=device)
    age, earned = torch.zeros_like(member), torch.zeros(world.batch, device=device)
    state, own, played = world.reset(), parameters[member], 0
    free = ~alive
    while len(waiting) or alive.any():
        if not (alive | free).any():
            state, free = world.reset(), ~alive
        if len(waiting) and free.any():
            place = free.nonzero()[: len(waiting), 0]
            member[place], waiting = waiting[: len(place)], waiting[len(place) :]
            age[place], earned[place], alive[place] = 0, 0.0, True
            own = parameters[member]
        step = world.step(controller.act_population(own, state[:, None])[:, 0])
        earned += step.reward * alive
        age += 1
        free = step.terminated | step.truncated
        over = alive & (free | (age >= max_steps))
        total.index_add_(0, member[over], earned[over])
        alive &= ~over
        state = step.state
        played += world.batch
    return total / episodes, played


def evolve(
    world: World,
    controller: Controller,
    generations: int,
    population: int,
    episodes: int,
    sigma: float,
    max_steps: int,
    seed: int,
    budget: int | None = None,
) -> Iterator[Generation]:
    """Improve `controller` in place, one generation for each item: its parameters become the best ones found.

    budget: steps of the world, after which no generation begins. Raises UserError, at once, for numbers that leave
    nothing to do.
    """
    if population < 4 or min(generations, episodes, max_steps) < 1 or sigma <= 0:
        raise UserError(
            "CMA-ES needs algo.population of at least 4, a positive algo.sigma, and at least 1 of algo.generations, "
            "algo.episodes and algo.max_steps"
        )
    options = {"popsize": population, "seed": seed + 1, "verbose": -9, "verb_log": 0}  # cma takes 0 for "any seed"
    strategy = cma.CMAEvolutionStrategy(controller.parameters_flat.cpu().numpy(), sigma, options)
    device = controller.parameters_flat.device

    def run() -> Iterator[Generation]:
        steps = 0
        for number in range(generations):
            candidates = strategy.ask()
            parameters = torch.from_numpy(np.array(candidates)).float().to(device)
            scores, played = fitness(world, controller, parameters, episodes, max_steps)
            steps += played
            strategy.tell(candidates, (-scores).cpu().tolist())
            controller.parameters_flat.copy_(torch.from_numpy(strategy.result.xfavorite))
            yield Generation(number, float(scores.max()), float(scores.mean()), float(strategy.sigma), steps)
            if budget is not None and steps >= budget:
                return

    return run()
