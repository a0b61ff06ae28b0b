"""The keys that a world takes, and the actions that they make of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

KEYS = ("left", "right", "up", "down")
# words by which environments call what a key does; FREE: the order in which keys take what has no such word
WORDS = {"left": {"left"}, "right": {"right"}, "up": {"up", "forward"}, "down": {"down", "backward"}}
FREE = ("up", "down", "left", "right")
NOTHING = ("", "noop")


class Keys(NamedTuple):
    """What a world takes of KEYS; the others do nothing there."""

    does: dict[str, str]  # by key, a word for the page
    action: dict[str, int]  # by key, where actions are discrete
    idle: int  # the discrete action while no key is held
    idle_does: str  # its word, "" for nothing


def keys_of(space: dict[str, Any], names: Sequence[str] | None = None) -> Keys:
    """The keys of an action space.

    Three continuous numbers are CarRacing's: steering, gas, brake. Other boxes: left and right move the first entry, up
    and down the second. Discrete ones by their `names`, see `envs.spaces.action_names`; without them two actions are
    left and right, more are nothing, right, left, up, down, as CarRacing has them. Four keys take no more of them.
    """
    if space["type"] == "box":
        if len(space["low"]) == 3:
            return Keys({"left": "left", "right": "right", "up": "gas", "down": "brake"}, {}, 0, "")
        return Keys({key: key for key in KEYS[: 2 * len(space["low"])]}, {}, 0, "")
    plain = ["left", "right"] if space["n"] == 2 else ["", "right", "left", "up", "down"]
    called = list(names) if names is not None else (plain + [""] * space["n"])[: space["n"]]
    action: dict[str, int] = {}
    for key, words in WORDS.items():
        found = (number for number, name in enumerate(called) if words & set(re.split("[^a-z]", name)))
        if (number := next(found, None)) is not None:
            action[key] = number
    rest = [n for n, name in enumerate(called) if name not in NOTHING and n not in action.values()]
    action |= dict(zip((key for key in FREE if key not in action), rest))
    idle = next((number for number, name in enumerate(called) if name in NOTHING), 0)
    says = ["" if name in NOTHING else name.replace("_", " ") for name in called]
    return Keys({key: says[action[key]] for key in KEYS if key in action}, action, idle, says[idle])


def action_of(held: frozenset[str], space: dict[str, Any], keys: Keys) -> np.ndarray:
    """The action of the keys that are held; of several discrete ones, the first in the order of KEYS."""
    if space["type"] == "discrete":
        return np.array(next((keys.action[key] for key in KEYS if key in held and key in keys.action), keys.idle))
    low, high = np.array(space["low"], np.float32), np.array(space["high"], np.float32)
    across = float("right" in held) - float("left" in held)
    if len(low) == 3:
        wanted = np.array([across, float("up" in held), float("down" in held)], np.float32)
        return np.clip(wanted * np.maximum(np.abs(low), np.abs(high)), low, high)
    action = np.clip(0, low, high).astype(np.float32)
    along = float("up" in held) - float("down" in held)
    for index, direction in enumerate((across, along)[: len(low)]):
        action[index] = {-1.0: low, 0.0: action, 1.0: high}[direction][index]
    return action
