"""Play real environments and hand out whole episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import gymnasium
import numpy as np

from ..envs.make import reset_some
from ..types import Episode


class Behaviour(Protocol):
    """Whatever chooses actions for a vector of environments."""

    def begin(self, seeds: dict[int, int]) -> None:
        """The environments that `seeds` names start an episode with that seed."""
        ...

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Observations [B, …] to actions: f32 [B, A], or i64 [B] where they are discrete."""
        ...


def play(
    envs: gymnasium.vector.VectorEnv, behaviour: Behaviour, seeds: Sequence[int], max_steps: int | None = None
) -> Iterator[Episode]:
    """Play one episode for each seed and yield it as it ends; `envs` must not reset by itself.

    max_steps: truncate episodes that last longer.

    Everything about an episode follows from its seed, so neither the number of environments nor their order matters.
    Environments without work replay the last seed until the others are done; what they play is dropped.
    """
    queue = list(enumerate(seeds))[::-1]
    slots = range(envs.num_envs)
    number: dict[int, int | None] = {}  # which seed each slot plays; None: its episode is dropped
    buffers: dict[int, tuple[list, list, list]] = {}
    wanted = len(queue)
    if not wanted:
        return

    def begin(ended: Sequence[int]) -> np.ndarray:
        starts = {}
        for slot in ended:
            number[slot], starts[slot] = queue.pop() if queue else (None, seeds[-1])
        observation = reset_some(envs, starts)
        behaviour.begin(starts)
        for slot in starts:
            buffers[slot] = ([observation[slot].copy()], [], [])
        return observation

    observation = begin(slots)
    while wanted:
        action = behaviour(observation)
        observation, reward, terminated, truncated, _ = envs.step(action)
        ended = []
        for slot in slots:
            observations, actions, rewards = buffers[slot]
            if number[slot] is not None:
                observations.append(observation[slot].copy())
                actions.append(np.array(action[slot]))
                rewards.append(reward[slot])
            cut = len(actions) == max_steps
            if terminated[slot] or truncated[slot] or cut:
                ended.append(slot)
                index = number[slot]
                if index is not None:
                    wanted -= 1
                    yield Episode(
                        seeds[index],
                        np.stack(observations),
                        np.stack(actions),
                        np.array(rewards, np.float32),
                        bool(terminated[slot]),
                        bool(truncated[slot] or (cut and not terminated[slot])),
                    )
        if ended and wanted:
            observation = begin(ended)
