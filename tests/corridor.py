"""A small world for tests of what learns by acting."""

import torch

from worldmodels.types import Step

DISCRETE = {"type": "discrete", "n": 2}


class Corridor:
    """State: the place, one-hot of 4. Action 1 goes right and pays 1; `limit` steps make an episode."""

    state_shape, action_space, frames_per_step = (4,), DISCRETE, 2

    def __init__(self, batch=3, limit=5, terminates=False):
        self.batch, self.limit, self.terminates = batch, limit, terminates

    def reset(self):
        self.place = torch.zeros(self.batch, dtype=torch.long)
        self.t = 0
        return self.state()

    def state(self):
        return torch.nn.functional.one_hot(self.place, 4).float()

    def step(self, action):
        self.place = (self.place + action) % 4
        self.t += 1
        next_state = self.state()
        ended = torch.full((self.batch,), self.t % self.limit == 0)
        if ended.any():
            self.place = torch.zeros_like(self.place)
        terminated = ended & self.terminates
        return Step(self.state(), next_state, action.float(), terminated, ended & ~terminated)
