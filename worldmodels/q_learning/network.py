"""Q(s, a) as a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoints
from ..bodies import MLP, body_of
from ..errors import UserError


class QNetwork(nn.Module):
    """Q(s, ·) of every discrete action.

    state_shape: (S,) or (H, W, C), see `bodies.body_of`; action_space: as envs.spaces.describe gives it; hidden: sizes
    of the hidden layers. Raises UserError where actions are continuous.
    """

    kind = "q_network"

    def __init__(
        self,
        state_shape: Sequence[int],
        action_space: dict[str, Any],
        hidden: Sequence[int] = (64, 64),
        normalize: bool = False,
        frame_body: str = "convolutions",
    ):
        super().__init__()
        if action_space["type"] != "discrete":
            raise UserError("Q of every action needs discrete actions; choose algo=a2c or ppo for continuous ones")
        self.arguments = {
            "state_shape": list(state_shape),
            "action_space": action_space,
            "hidden": list(hidden),
            "normalize": normalize,
            "frame_body": frame_body,
        }
        self.facts: dict[str, Any] = {}
        self.optimizer_state: dict[str, Any] | None = None
        self.actions = int(action_space["n"])
        self.body, features = body_of(state_shape, normalize, frame_body)
        self.head = MLP([features, *hidden, self.actions], output_gain=1.0, relu=True)

    def forward(self, state: Tensor) -> Tensor:
        """States [..., S] or u8 [..., H, W, C] to f32 [..., n]."""
        return self.head(self.body(state))

    def act(self, state: Tensor, exploration: float = 0.0) -> Tensor:
        """The best action i64 [...], or with the chance `exploration` any."""
        best = self(state).argmax(-1)
        if not exploration:
            return best
        any_action = torch.randint_like(best, self.actions)
        return torch.where(torch.rand_like(best, dtype=torch.float32) < exploration, any_action, best)

    @classmethod
    def load(cls, path: str | Path) -> tuple[QNetwork, checkpoints.Checkpoint]:
        """The trained network and what its checkpoint says. Raises UserError, see `checkpoints.read`."""
        checkpoint = checkpoints.read(path, cls.kind)
        weights = {k.removeprefix("policy."): v for k, v in checkpoint.state.items() if k.startswith("policy.")}
        return checkpoints.build(cls, checkpoint._replace(state=weights))
