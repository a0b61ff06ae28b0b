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

    parameters: f32 [P, n]. All P · episodes are laid out one behind another and played B at a time.
    """
    members = len(parameters)
    waiting = torch.arange(members, device=parameters.device).repeat_interleave(episodes)
    total = torch.zeros(members, device=parameters.device)
    played = 0
    for member in waiting.split(world.batch):
        # places without a member repeat the first; what they earn is dropped
        place = torch.cat([member, member[:1].expand(world.batch - len(member))])
        own = parameters[place]
        state = world.reset()
        alive = torch.ones(world.batch, dtype=torch.bool, device=state.device)
        earned = torch.zeros(world.batch, device=state.device)
        for _ in range(max_steps):
            step = world.step(controller.act_population(own, state[:, None])[:, 0])
            earned += step.reward * alive
            alive &= ~(step.terminated | step.truncated)
            state = step.state
            played += world.batch
            if not alive[: len(member)].any():
                break
        total.index_add_(0, member, earned[: len(member)])
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
) -> Iterator[Generation]:
    """Improve `controller` in place, one generation for each item: its parameters become the best ones found.

    Raises UserError, at once, for numbers that leave nothing to do.
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

    return run()
