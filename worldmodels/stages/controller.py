"""Train C: in the dream, in the latent world, or model-free in the real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from .. import checkpoints
from ..controller.cmaes import evolve
from ..controller.networks import Controller
from ..envs.make import versions
from ..envs.seeding import environment_seed
from ..errors import UserError
from ..learner import Learner
from ..policy_gradient.a2c import A2C
from ..policy_gradient.ppo import PPO
from ..policy_gradient.q_actor_critic import QActorCritic
from ..policy_gradient.reinforce import Reinforce
from ..q_learning.dqn import DQN
from ..tracking import Progress, Run, StageResult, pick_device
from ..worlds.dream_env import dream_from_checkpoint
from ..worlds.gym_world import GymWorld, Observed
from ..worlds.protocol import World
from .driving import ACTORS, Models
from .settings import describe_environment, open_envs, with_kwargs
from .training import fit

LEARNERS: dict[str, type[Learner]] = {
    "a2c": A2C,
    "dqn": DQN,
    "ppo": PPO,
    "q_actor_critic": QActorCritic,
    "reinforce": Reinforce,
    "reinforce_baseline": Reinforce,
}


def train_controller(
    run: Run,
    vision: str | Path,
    memory: str | Path,
    world: str,
    algo: dict[str, Any],
    policy: dict[str, Any],
    horizon: int,
    temperature: float,
    batch: int,
    num_envs: int,
    asynchronous: bool,
    seed: int,
    sees: str = "z_h",
    memory_weights: str = "trained",
    device: str = "auto",
    continue_from: str | Path | None = None,
    env_kwargs: dict[str, Any] | None = None,
    snapshots: int = 0,
    snapshots_after: float = 0.0,
    rivals: Sequence[str | Path] = (),
    doubt: float = 0.0,
    ensemble: bool = False,
) -> StageResult:
    """C on what it `sees` of z and M's state, see `worlds.latent_world.state_dim`.

    world: "dream" (M alone: `batch` dreams of `horizon` steps at `temperature`) or "latent" (`num_envs` real
    environments seen through V and M, made with `env_kwargs` as well, which scores know nothing of). memory_weights:
    "trained", or in the latent world "random", for an M of the same size that has learned nothing. snapshots:
    keep so many checkpoints on the way as well, snapshot_<update>.ckpt, evenly spaced over what comes after the share
    `snapshots_after` of the training. rivals: in the dream, other M's of the same V. doubt: what their disagreement
    costs, see `DoubtedDream`; ensemble: whether each of them dreams its share in place of that, see `EnsembleDream`.
    """
    where = pick_device(device)
    if world not in ("dream", "latent"):
        raise UserError(f"unknown world {world!r}; choose dream or latent")
    lightning.seed_everything(seed, verbose=False)
    if memory_weights not in ("trained", "random"):
        raise UserError(f"unknown controller.memory_weights {memory_weights!r}; choose trained or random")
    random_memory = seed if memory_weights == "random" else None
    if world == "dream" and random_memory is not None:
        raise UserError("an M that has learned nothing dreams of nothing; set controller.memory_weights=trained")
    if doubt < 0 or (doubt and ensemble) or bool(doubt or ensemble) != bool(rivals) or (rivals and world != "dream"):
        raise UserError(
            f"controller.doubt={doubt:g} and controller.ensemble={ensemble} for {len(rivals)} rivals of M in the "
            f"{world} world do not fit together; set world=dream, rivals and one of the two, or none of them"
        )
    keeping = (snapshots, snapshots_after)
    models = Models(vision, memory, where, random_memory)
    environment = models.environment
    inputs = _inputs(vision=vision, memory=memory, continued=continue_from)
    inputs |= _inputs(**{f"rival_{number}": path for number, path in enumerate(rivals)})
    facts = {
        "environment": environment,
        "world": world,
        "vision": str(vision),
        "vision_sha256": models.vision_checkpoint.sha256,
        "memory": str(memory),
        "memory_sha256": models.memory_checkpoint.sha256,
        "random_memory": random_memory,
        "sees": sees,
    }
    if world == "dream":
        dream = dream_from_checkpoint(
            memory, batch, horizon, temperature, sees, seed, where, run.compiles, rivals, doubt, ensemble
        )
        return _learn(run, dream, algo, policy, facts, inputs, seed, where, continue_from, keeping)
    with closing(open_envs(with_kwargs(environment, env_kwargs), num_envs, asynchronous)) as envs:
        real = GymWorld(envs, models.tracker(num_envs, sees=sees), _training_seeds(seed), environment["action_repeat"])
        return _learn(run, real, algo, policy, facts, inputs, seed, where, continue_from, keeping)


def train_baseline(
    run: Run,
    env: dict[str, Any],
    algo: dict[str, Any],
    policy: dict[str, Any],
    seed: int,
    device: str = "auto",
    continue_from: str | Path | None = None,
) -> StageResult:
    """The same learners without a model: states are the environment's vectors or frames."""
    where = pick_device(device)
    lightning.seed_everything(seed, verbose=False)
    environment = describe_environment(env)
    inputs = _inputs(continued=continue_from)
    if len(environment["observation_shape"]) not in (1, 3):
        raise UserError(f"{environment['id']} shows neither a vector nor a frame; choose an environment that does")
    facts = {"environment": environment, "world": "real", "vision": None, "memory": None}
    envs = open_envs(env, env["num_envs"], env["asynchronous"])
    with closing(envs):
        world = GymWorld(
            envs, Observed(envs.single_observation_space, where), _training_seeds(seed), environment["action_repeat"]
        )
        return _learn(run, world, algo, policy, facts, inputs, seed, where, continue_from)


def _learn(
    run: Run,
    world: World,
    algo: dict[str, Any],
    policy: dict[str, Any],
    facts: dict[str, Any],
    inputs: dict[str, Path],
    seed: int,
    where: torch.device,
    continue_from: str | Path | None,
    keeping: tuple[int, float] = (0, 0.0),
) -> StageResult:
    """Hand the world to the algorithm that `algo` names. keeping: how many snapshots, and the share before them."""
    snapshots, after = keeping
    algo = dict(algo)
    name = algo.pop("name")
    if name == "cmaes":
        if snapshots:
            raise UserError("algo=cmaes keeps no snapshots; set controller.snapshots=0")
        return _evolve(run, world, algo, policy, facts, inputs, seed, where, continue_from)
    if name not in LEARNERS:
        raise UserError(f"unknown algo {name!r}; choose among {', '.join([*LEARNERS, 'cmaes'])}")
    learns = LEARNERS[name]
    actor = learns.network(world, **policy)
    if continue_from is not None:
        actor = _continued(actor, continue_from)
    actor.facts = facts
    updates = algo.pop("updates")
    learner: Any = learns(actor.to(where), world, **algo)  # pyright: ignore[reportCallIssue]
    if updates < 1:
        raise UserError(f"algo.updates must be at least 1, not {updates}")
    due = _due(updates, snapshots, after)
    if snapshots < 0 or not 0 <= after < 1 or len(due) < snapshots:
        raise UserError(
            f"controller.snapshots={snapshots} with controller.snapshots_after={after:g} do not fit into "
            f"algo.updates={updates}; set fewer, or a share from 0 to less than 1"
        )
    run.begin(facts["environment"]["id"], inputs, versions(), world=facts["world"])
    kept = Snapshots(run.folder, due)
    steps = DataLoader(range(updates), batch_size=None)  # pyright: ignore[reportArgumentType]
    path, _ = fit(learner, steps, run, 1, updates, where, "C", learner.shown, callbacks=[kept])
    mean = learner.returns.mean()
    return StageResult(
        learner.steps_played,
        "steps",
        f"training return {mean:.0f}",
        {"checkpoint": path, **{snapshot.stem: snapshot for snapshot in kept.paths}},
        {"training_return": mean, "env_steps": learner.steps_played * world.frames_per_step},
    )


def _due(updates: int, count: int, after: float) -> set[int]:
    """`count` updates, evenly spaced over what comes after that share of all; the last one is the last update."""
    return {round(updates * (after + (1 - after) * number / count)) for number in range(1, count + 1)} - {0}


class Snapshots(Callback):
    """Checkpoints after the updates that are `due`."""

    def __init__(self, folder: Path, due: set[int]):
        self.folder, self.due = folder, due
        self.paths: list[Path] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step in self.due:
            self.paths.append(self.folder / f"snapshot_{trainer.global_step:08d}.ckpt")
            trainer.save_checkpoint(self.paths[-1])


def _evolve(
    run: Run,
    world: World,
    algo: dict[str, Any],
    policy: dict[str, Any],
    facts: dict[str, Any],
    inputs: dict[str, Path],
    seed: int,
    where: torch.device,
    continue_from: str | Path | None,
) -> StageResult:
    hidden = list(policy["hidden"])
    if len(world.state_shape) != 1 or len(hidden) > 1:
        raise UserError("algo=cmaes takes vectors and at most one hidden layer; set policy.hidden=[] or [n]")
    controller = Controller(world.state_shape, world.action_space, hidden[0] if hidden else 0, algo.pop("bias")).to(
        where
    )
    if continue_from is not None:
        controller = _continued(controller, continue_from)
    controller.facts = facts
    generations = evolve(world, controller, seed=seed, **algo)
    run.begin(facts["environment"]["id"], inputs, versions(), world=facts["world"])
    path = run.folder / "last.ckpt"
    loggers = run.loggers()
    generation = None
    with Progress("C", algo["generations"], "generations") as progress:
        for generation in generations:
            progress.advance(best=generation.best, mean=generation.mean)
            controller.save(path)
            steps = "env_step" if world.frames_per_step else "dream_step"
            figures = {
                "train/best": generation.best,
                "train/mean": generation.mean,
                "train/return": generation.mean,  # as learners call it, of the whole population
                "train/sigma": generation.sigma,
                steps: generation.steps * (world.frames_per_step or 1),
                "update_step": generation.number + 1,
                "time/seconds": progress.seconds,
            }
            for logger in loggers:
                logger.log_metrics(figures, step=generation.number)
                logger.save()
    assert generation is not None, "evolve has checked that there is one"
    return StageResult(
        generation.steps,
        "steps",
        f"best of the population {generation.best:.0f}",
        {"checkpoint": path},
        {"best": generation.best, "env_steps": generation.steps * world.frames_per_step},
    )


def _continued(actor: Any, path: str | Path) -> Any:
    before, _ = type(actor).load(path)
    if before.arguments != actor.arguments:
        changed = [key for key, value in actor.arguments.items() if before.arguments[key] != value]
        raise UserError(f"{path} differs in {', '.join(changed)}; set policy to match")
    return before.train().to(next(iter(actor.state_dict().values())).device)


def _training_seeds(seed: int) -> Callable[[], int]:
    numbers = count()
    return lambda: environment_seed("train", next(numbers), run_seed=seed)


def _inputs(**paths: str | Path | None) -> dict[str, Path]:
    """The given checkpoints; each must exist before anything is written about it."""
    found = {name: Path(path) for name, path in paths.items() if path is not None}
    for name, path in found.items():
        kind = "memory" if name.startswith("rival") else name
        checkpoints.read(path, *({"vision", "memory"} & {kind} or ACTORS))
    return found
