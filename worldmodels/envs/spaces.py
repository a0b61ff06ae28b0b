"""Action spaces as plain values, so that checkpoints and manifests can carry them."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..errors import UserError


def describe(space: spaces.Space) -> dict[str, Any]:
    """A Discrete or a bounded one-dimensional Box as a plain dictionary. Raises UserError for any other space."""
    if isinstance(space, spaces.Discrete):
        return {"type": "discrete", "n": int(space.n)}
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and np.isfinite([space.low, space.high]).all():
        return {"type": "box", "low": space.low.tolist(), "high": space.high.tolist()}
    raise UserError(f"actions of {space} are not supported; they must be discrete or a bounded vector")


def restore(description: dict[str, Any]) -> spaces.Discrete | spaces.Box:
    """The inverse of `describe`."""
    if description["type"] == "discrete":
        return spaces.Discrete(description["n"])
    return spaces.Box(np.array(description["low"], np.float32), np.array(description["high"], np.float32))


def action_dim(description: dict[str, Any]) -> int:
    """How many numbers an action is to a network."""
    return description["n"] if description["type"] == "discrete" else len(description["low"])


def as_features(action: Tensor, description: dict[str, Any]) -> Tensor:
    """What a network sees of an action: f32 [..., A] as it is, i64 [...] one-hot [..., n]."""
    if description["type"] == "discrete":
        return torch.nn.functional.one_hot(action.long(), description["n"]).float()
    return action


def action_names(env: gymnasium.Env) -> list[str] | None:
    """What each discrete action is called, in lower case, "" where it presses nothing; None where nothing tells.

    Doom's are the buttons that its scenario has (in TakeCover "", "move_right", "move_left"), Atari's its own meanings.
    """
    bare: Any = env.unwrapped
    if hasattr(bare, "button_map"):
        buttons = [button.name.lower() for button in bare.game.get_available_buttons()]
        names = [" ".join(itertools.compress(buttons, pressed)) for pressed in bare.button_map]
    elif hasattr(bare, "get_action_meanings"):
        names = [name.lower() for name in bare.get_action_meanings()]
    else:
        return None
    return [names[action] for action in env.get_wrapper_attr("chosen")] if env.has_wrapper_attr("chosen") else names
