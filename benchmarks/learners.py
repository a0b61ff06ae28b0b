"""The learners beside stable-baselines3's, with equal hyperparameters and each with its own vector of environments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from harness import Contest, rate
from inputs import FAST, STOCK

from worldmodels.envs.make import EnvSettings, make_env, make_envs
from worldmodels.learner import Learner
from worldmodels.policy_gradient.a2c import A2C
from worldmodels.policy_gradient.policies import Policy
from worldmodels.q_learning.dqn import DQN
from worldmodels.q_learning.network import QNetwork
from worldmodels.worlds.gym_world import GymWorld, Observed


def update(learner: Learner, optimizer: torch.optim.Optimizer) -> int:
    """What Lightning does for each update; the steps that were played for it."""
    before = learner.steps_played
    batch = learner.next_batch()
    optimizer.zero_grad()
    learner.backward(learner.losses_of(batch)["loss"])
    learner.configure_gradient_clipping(optimizer)
    optimizer.step()
    return learner.steps_played - before


def a2c(env: str, target: float) -> Contest:
    from stable_baselines3 import A2C as TheirA2C
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    pixels = env == "CarRacing-v3"
    places = 4 if pixels else 8
    settings = FAST if pixels else EnvSettings(env, {})
    envs = make_envs(settings, places, asynchronous=pixels)
    seeds = iter(range(10**9))
    world = GymWorld(envs, Observed(envs.single_observation_space), lambda: next(seeds))

    def learner_on(world: GymWorld) -> A2C:
        policy = Policy(world.state_shape, world.action_space, distribution="gaussian")
        return A2C(policy, world, steps=5, gae_lambda=1.0)

    learner = learner_on(world)
    learner.compile_loss()
    optimizer = learner.configure_optimizers()

    if pixels:
        vector = make_vec_env(lambda: make_env(STOCK), places, vec_env_cls=SubprocVecEnv)  # pyright: ignore
    else:
        # by name it would ask for pictures, and then LunarLander's engines smoke: a third of the speed
        vector = make_vec_env(partial(gymnasium.make, env), places, vec_env_cls=DummyVecEnv)
    # the optimiser and its rate are ours
    options: dict[str, Any] = {"device": "cpu", "learning_rate": 7e-4, "use_rms_prop": False}
    agent = TheirA2C("CnnPolicy" if pixels else "MlpPolicy", vector, **options)

    def theirs() -> int:
        count = 5 * places * (4 if pixels else 40)
        agent.learn(count, reset_num_timesteps=False)
        return count

    def after_equal_steps() -> dict[str, list[float]]:
        """Mean greedy return over 100 episodes after 100,000 steps, for three seeds."""
        scores: dict[str, list[float]] = {"ours": [], "theirs": []}
        for seed in range(3):
            torch.manual_seed(seed)
            fresh = learner_on(world)
            fresh.compile_loss()
            optimizer = fresh.configure_optimizers()
            for _ in range(100_000 // (5 * places)):
                update(fresh, optimizer)
            scores["ours"].append(
                mean_return(settings, lambda seen, by=fresh: by.policy.act(torch.from_numpy(seen)).numpy())
            )
            agent = TheirA2C("MlpPolicy", vector, seed=seed, **options).learn(100_000)
            scores["theirs"].append(
                mean_return(settings, lambda seen, by=agent: by.predict(seen, deterministic=True)[0])
            )
        return scores

    return Contest(
        "6",
        f"A2C on {env}, {places} environments, 5 steps",
        "steps",
        "stable-baselines3",
        lambda: rate(lambda: update(learner, optimizer), 3.0),
        lambda: rate(theirs, 3.0),
        target,
        None,
        lambda: (envs.close(), vector.close())[0],
        ("return after the same steps", after_equal_steps) if env == "CartPole-v1" else None,
    )


def mean_return(settings: EnvSettings, act: Callable[[np.ndarray], np.ndarray]) -> float:
    """Over the first episode of each of 100 environments, seeds that no training has seen."""
    envs = make_envs(settings, 100, asynchronous=False)
    seen, _ = envs.reset(seed=10**6)
    total, playing = np.zeros(100), np.ones(100, np.bool_)
    while playing.any():
        seen, reward, terminated, truncated, _ = envs.step(act(seen))
        total += reward * playing
        playing &= ~(terminated | truncated)
    return float(total.mean())


def dqn(env: str, target: float) -> Contest:
    """Eight environments, an update of 64 steps for every four that are played."""
    from stable_baselines3 import DQN as TheirDQN
    from stable_baselines3.common.env_util import make_vec_env

    places, steps = 8, 4
    envs = make_envs(EnvSettings(env, {}), places, asynchronous=False)
    seeds = iter(range(10**9))
    world = GymWorld(envs, Observed(envs.single_observation_space), lambda: next(seeds))
    network = QNetwork(world.state_shape, world.action_space, [64, 64])
    learner = DQN(network, world, steps, double=False, updates_per_rollout=8, capacity=50_000, target_every=250)
    learner.compile_loss()
    optimizer = learner.configure_optimizers()

    vector = make_vec_env(partial(gymnasium.make, env), places)  # not by name, see above
    agent = TheirDQN(
        "MlpPolicy",
        vector,
        learning_rate=1e-3,
        buffer_size=50_000,
        learning_starts=1000,
        batch_size=64,
        train_freq=steps,
        gradient_steps=8,
        target_update_interval=1000,
        device="cpu",
    )

    def theirs() -> int:
        agent.learn(2000, reset_num_timesteps=False)
        return 2000

    return Contest(
        "6",
        f"DQN on {env}, {places} environments, an update for four steps",
        "steps",
        "stable-baselines3",
        lambda: rate(lambda: update(learner, optimizer), 3.0),
        lambda: rate(theirs, 3.0),
        target,
        None,
        lambda: (envs.close(), vector.close())[0],
    )
