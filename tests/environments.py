"""Small environments for tests, made by id: gymnasium.make("environments:Counting-v0")."""

import os
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


class Counting(gymnasium.Env):
    """Observation u8 [8, 1, 1]: the bytes of the episode's seed, t, and the action that led here (255 at first).

    Ends after 3 + seed % 5 steps: by termination where the seed is even, by truncation where it is odd. The reward of
    a step is 10 · t + the action.
    """

    observation_space = spaces.Box(0, 255, (8, 1, 1), np.uint8)
    action_space = spaces.Discrete(200)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.t = seed, 0
        return self._observe(255), {}

    def step(self, action):
        reward = 10.0 * self.t + float(action)
        self.t += 1
        over = self.t == episode_length(self.seed)
        return self._observe(action), reward, over and self.seed % 2 == 0, over and self.seed % 2 == 1, {}

    def _observe(self, action):
        word = [*int(self.seed).to_bytes(4, "big"), self.t, int(action), 0, 0]
        return np.array(word, np.uint8).reshape(8, 1, 1)


def episode_length(seed: int) -> int:
    return 3 + seed % 5


class Blob(gymnasium.Env):
    """A bright square that two of three actions push about; frames 64×64. The reward is its height above the middle."""

    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Box(np.array([-1, -1, 0], np.float32), np.ones(3, np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.place = self.np_random.uniform(16, 48, 2)
        return self._draw(), {}

    def step(self, action):
        self.t += 1
        self.place = np.clip(self.place + 3 * np.asarray(action[:2]), 4, 60)
        fell = bool(self.place[0] > 58)
        return self._draw(), float(32 - self.place[0]) / 32, fell, not fell and self.t >= 24, {}

    def _draw(self):
        frame = np.full((64, 64, 3), 40, np.uint8)
        y, x = self.place.astype(int)
        frame[max(y - 4, 0) : y + 4, max(x - 4, 0) : x + 4] = (250, 180, 60)
        return frame


class Pushed(Blob):
    """Blob moved by four discrete actions, which it names."""

    action_space = spaces.Discrete(4)
    moves = ((0, 0), (-1, 0), (0, 1), (0, -1))  # down, right

    def get_action_meanings(self):
        return ["NOOP", "FIRE", "RIGHT", "LEFT"]

    def step(self, action):
        return super().step(self.moves[action])


class Troubled(Counting):
    """Dies, hangs or raises at its second step where the seed asks for it."""

    def step(self, action):
        if self.t == 1:
            if self.seed % 100 == 91:
                os._exit(3)
            if self.seed % 100 == 92:
                time.sleep(60)
            if self.seed % 100 == 93:
                raise RuntimeError("a wheel came off")
        return super().step(action)


class Leaving(Troubled):
    """Has something of its own for as long as it is open: a file in `folder`. Fails to close where the seed asks so."""

    def __init__(self, folder):
        self.own = Path(folder, f"{os.getpid()}_{id(self)}")
        self.own.touch()

    def close(self):
        self.own.unlink()
        if getattr(self, "seed", 0) % 100 == 94:
            raise RuntimeError("the door is stuck")


gymnasium.register("Troubled-v0", entry_point=Troubled)
gymnasium.register("Leaving-v0", entry_point=Leaving)
gymnasium.register("Counting-v0", entry_point=Counting)
gymnasium.register("Blob-v0", entry_point=Blob)
gymnasium.register("Pushed-v0", entry_point=Pushed)
