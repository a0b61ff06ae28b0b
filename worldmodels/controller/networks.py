"""C as the paper has it: a small deterministic network, evaluated for a whole population at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoints
from ..envs.spaces import action_dim


class Controller(nn.Module):
    """action = squash(W s + b), or with one hidden layer squash(W₂ tanh(W₁ s + b₁) + b₂).

    Ha & Schmidhuber 2018, arXiv 1803.10122, section 2.3: 867 parameters for CarRacing. squash is tanh scaled to the
    action's range, argmax where actions are discrete. Its parameters are one flat vector.
    """

    kind = "controller"
    parameters_flat: Tensor

    def __init__(self, state_shape: Sequence[int], action_space: dict[str, Any], hidden: int = 0, bias: bool = True):
        super().__init__()
        self.arguments = {
            "state_shape": list(state_shape),
            "action_space": action_space,
            "hidden": hidden,
            "bias": bias,
        }
        self.facts: dict[str, Any] = {}
        self.optimizer_state: dict[str, Any] | None = None
        self.discrete, self.bias = action_space["type"] == "discrete", bias
        sizes = [state_shape[0], *([hidden] if hidden else []), self._outputs(action_space)]
        self.layers = list(itertools.pairwise(sizes))
        self.register_buffer("parameters_flat", torch.zeros(self.count))
        if not self.discrete:
            self.register_buffer("low", torch.tensor(action_space["low"]))
            self.register_buffer("high", torch.tensor(action_space["high"]))

    @staticmethod
    def _outputs(action_space: dict[str, Any]) -> int:
        # two actions need one output only: its sign (the paper's TakeCover controller has 1,088 parameters)
        return 1 if action_space["type"] == "discrete" and action_space["n"] == 2 else action_dim(action_space)

    @property
    def count(self) -> int:
        """How many parameters C has."""
        return sum((before + int(self.bias)) * after for before, after in self.layers)

    def act(self, state: Tensor) -> Tensor:
        """States [B, S] to actions of this one controller."""
        return self.act_population(self.parameters_flat[None], state[None])[0]

    def act_population(self, parameters: Tensor, state: Tensor) -> Tensor:
        """Parameters [P, n] and states [P, E, S] to actions f32 [P, E, A] or i64 [P, E]: one C each row."""
        x, used = state, 0
        for number, (before, after) in enumerate(self.layers):
            weight = parameters[:, used : used + before * after].unflatten(1, (before, after))
            used += before * after
            x = torch.bmm(x, weight)
            if self.bias:
                x = x + parameters[:, None, used : used + after]
                used += after
            if number < len(self.layers) - 1:
                x = torch.tanh(x)
        if self.discrete:
            return (x[..., 0] > 0).long() if x.shape[-1] == 1 else x.argmax(-1)
        low, high = self.get_buffer("low"), self.get_buffer("high")
        return low + (torch.tanh(x) + 1) / 2 * (high - low)

    def save(self, path: Path) -> None:
        """Write the checkpoint under a temporary name, then rename it."""
        content: dict[str, Any] = {"state_dict": self.state_dict()}
        checkpoints.stamp(content, self.kind, self.arguments, self.facts)
        temporary = path.with_suffix(".tmp")
        torch.save(content, temporary)
        temporary.rename(path)

    @classmethod
    def load(cls, path: str | Path) -> tuple[Controller, checkpoints.Checkpoint]:
        """The trained C and what its checkpoint says. Raises UserError, see `checkpoints.read`."""
        return checkpoints.build(cls, checkpoints.read(path, cls.kind))
