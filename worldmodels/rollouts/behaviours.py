"""Ways to act without having learned: what fills the first store.

Each environment has its own random stream, seeded by its episode: an episode is the same in any vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from gymnasium import spaces

from ..errors import UserError


class RandomBehaviour:
    """Uniform actions, and what all share: a random stream for each environment and the range to draw from."""

    def __init__(self, space: spaces.Space):
        self.discrete = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self.actions = int(space.n)
        elif isinstance(space, spaces.Box) and np.isfinite(space.low).all() and np.isfinite(space.high).all():
            self.low, self.high = space.low.astype(np.float32), space.high.astype(np.float32)
        else:
            raise UserError(f"cannot explore {space}; actions must be discrete or a bounded box")
        self.random: dict[int, np.random.Generator] = {}

    def begin(self, seeds: dict[int, int]) -> None:
        for slot, seed in seeds.items():
            self.random[slot] = np.random.default_rng([seed, 1])
            self.begin_slot(slot)

    def begin_slot(self, slot: int) -> None:
        """Called after the slot's stream was seeded."""

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        actions = [self.act(slot, observation[slot]) for slot in range(len(observation))]
        return np.array(actions, np.int64 if self.discrete else np.float32)

    def act(self, slot: int, observation: np.ndarray) -> np.ndarray | int:
        """One environment's action; here uniform over the range."""
        if self.discrete:
            return int(self.random[slot].integers(self.actions))
        return self.random[slot].uniform(self.low, self.high).astype(np.float32)

    def scale(self, unit: np.ndarray) -> np.ndarray:
        """From [−1, 1] to the range."""
        return self.low + (unit + 1) / 2 * (self.high - self.low)


class Brownian(RandomBehaviour):
    """Smooth noise: a random walk with reflection in [−1, 1], a step of σ each time. Continuous actions only."""

    def __init__(self, space: spaces.Space, step: float = 0.5):
        super().__init__(space)
        if self.discrete:
            raise UserError(f"brownian noise needs continuous actions, not {space}; choose held")
        self.step = step
        self.position: dict[int, np.ndarray] = {}

    def begin_slot(self, slot: int) -> None:
        self.position[slot] = self.random[slot].uniform(-1, 1, self.low.shape)

    def act(self, slot: int, observation: np.ndarray) -> np.ndarray:
        walked = self.position[slot] + self.step * self.random[slot].standard_normal(self.low.shape)
        self.position[slot] = 1 - np.abs((walked + 1) % 4 - 2)  # reflected at both ends
        return self.scale(self.position[slot]).astype(np.float32)


class Held(RandomBehaviour):
    """A random action, kept for `hold` steps."""

    def __init__(self, space: spaces.Space, hold: int = 4):
        super().__init__(space)
        self.hold = hold
        self.kept: dict[int, tuple[int, np.ndarray | int]] = {}

    def begin_slot(self, slot: int) -> None:
        self.kept.pop(slot, None)

    def act(self, slot: int, observation: np.ndarray) -> np.ndarray | int:
        left, action = self.kept.get(slot, (0, 0))
        if left == 0:
            left, action = self.hold, super().act(slot, observation)
        self.kept[slot] = (left - 1, action)
        return action


class RandomNetwork(RandomBehaviour):
    """A linear policy with weights drawn anew for each episode, on the coarse frame (8×8) or on the vector."""

    def __init__(self, space: spaces.Space, weight_scale: float = 2.0):
        super().__init__(space)
        self.weight_scale = weight_scale
        self.weights: dict[int, np.ndarray] = {}

    def begin_slot(self, slot: int) -> None:
        self.weights.pop(slot, None)

    def act(self, slot: int, observation: np.ndarray) -> np.ndarray | int:
        if observation.ndim == 3:
            observation = cv2.resize(observation, (8, 8), interpolation=cv2.INTER_AREA) / 127.5 - 1
        features = np.append(observation.ravel(), 1.0)
        outputs = self.actions if self.discrete else len(self.low)
        if slot not in self.weights:
            spread = self.weight_scale / np.sqrt(len(features))
            self.weights[slot] = self.random[slot].normal(0, spread, (outputs, len(features)))
        out = self.weights[slot] @ features
        return int(out.argmax()) if self.discrete else self.scale(np.tanh(out)).astype(np.float32)


BEHAVIOURS = {"uniform": RandomBehaviour, "brownian": Brownian, "held": Held, "network": RandomNetwork}


def make_behaviour(name: str, space: spaces.Space, **options: float) -> RandomBehaviour:
    """One of BEHAVIOURS with its own options: brownian takes `step`, held `hold`, network `weight_scale`.

    Raises UserError for an unknown name.
    """
    if name not in BEHAVIOURS:
        raise UserError(f"unknown behaviour {name!r}; choose among {', '.join(BEHAVIOURS)}")
    return BEHAVIOURS[name](space, **options)


class Exploration:
    """What is added to a controller's actions where it collects, from a random stream seeded by each episode.

    action_space: as envs.spaces.describe gives it. noise: standard deviation of a Gaussian in half-widths of the action
    range, one for all parts of an action or one for each; of discrete actions the share that is random. correlation: of
    the noise at one step with that at the step before, 0 to 1: noise that lasts shows what a gas held for a while does,
    where noise that changes with each step averages out. At 1 an episode keeps what it drew first. Raises UserError for
    a correlation of another size, one of discrete actions, noise of another length or below 0.
    """

    def __init__(self, action_space: dict[str, Any], noise: float | Sequence[float], correlation: float = 0.0):
        self.discrete = action_space["type"] == "discrete"
        own = np.atleast_1d(np.array(noise, np.float64))
        parts = 1 if self.discrete else len(action_space["low"])
        if own.ndim > 1 or len(own) not in (1, parts) or (own < 0).any():
            raise UserError(f"collect.noise={noise} must be at least 0: a number, or one for each of {parts} actions")
        if not 0 <= correlation <= 1 or (self.discrete and correlation):
            raise UserError(f"collect.noise_correlation={correlation} must be from 0 to 1, and 0 for discrete actions")
        self.noise, self.correlation = own, correlation
        if self.discrete:
            self.actions = int(action_space["n"])
        else:
            self.low, self.high = (np.array(action_space[bound], np.float32) for bound in ("low", "high"))
        self.random: dict[int, np.random.Generator] = {}
        self.drift: dict[int, np.ndarray] = {}  # of unit variance

    def begin(self, seeds: dict[int, int]) -> None:
        for slot, seed in seeds.items():
            self.random[slot] = np.random.default_rng([seed, 2])
            self.drift.pop(slot, None)

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """f32 [B, A] or i64 [B], disturbed; the actions themselves stay as they are."""
        if not self.noise.any():
            return action
        chosen = action.copy()
        for slot, random in self.random.items():
            if self.discrete:
                if random.random() < self.noise[0]:
                    chosen[slot] = random.integers(self.actions)
            else:
                noisy = chosen[slot] + self.noise * (self.high - self.low) / 2 * self._drift(slot, random)
                chosen[slot] = np.clip(noisy, self.low, self.high)
        return chosen

    def _drift(self, slot: int, random: np.random.Generator) -> np.ndarray:
        drift = random.standard_normal(self.low.shape)
        if slot in self.drift:
            drift = self.correlation * self.drift[slot] + np.sqrt(1 - self.correlation**2) * drift
        self.drift[slot] = drift
        return drift
