"""Checkpoints that say what they are. Only tensors and plain values are ever loaded (`weights_only=True`)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .errors import UserError

MAKES = {
    "vision": "python scripts/train_vae.py",
    "memory": "python scripts/train_mdnrnn.py",
    "policy": "python scripts/train_controller.py",
    "controller": "python scripts/train_controller.py algo=cmaes",
    "q_network": "python scripts/train_baseline.py algo=dqn",
}
STAMP = "worldmodels"


class Facts(dict[str, Any]):
    """What a checkpoint says of itself; to ask for more ends in a UserError, since an earlier version wrote it."""

    def __init__(self, facts: dict[str, Any], path: Path, make: str):
        super().__init__(facts)
        self.path, self.make = path, make

    def __missing__(self, name: str) -> Any:
        raise UserError(
            f"{self.path} does not say its {name!r}, as one of this version does; make one with: {self.make}"
        )


class Checkpoint(NamedTuple):
    path: Path
    kind: str  # one of MAKES
    arguments: dict[str, Any]  # what the module's constructor takes
    facts: Facts  # what it was made from: environment, hashes of V and M
    state: dict[str, torch.Tensor]
    optimizer: dict[str, Any] | None
    sha256: str  # of the file


def sha256(path: Path) -> str:
    """Hash of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(checkpoint: dict[str, Any], kind: str, arguments: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write into a checkpoint what it is, so that `read` can tell."""
    checkpoint[STAMP] = {"kind": kind, "arguments": arguments, "facts": dict(facts)}


def read(path: str | Path, *kinds: str) -> Checkpoint:
    """Load a checkpoint that must be one of `kinds`.

    Raises UserError if it is missing, damaged, of another kind or not ours at all.
    """
    path = Path(path)
    make = MAKES[kinds[0]]
    if not path.is_file():
        raise UserError(f"no {' or '.join(kinds)} checkpoint at {path}; make one with: {make}")
    try:
        if path.suffix == ".safetensors":
            content = _exported(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise UserError(f"{path} is damaged or no checkpoint ({reason}); make it again with: {make}") from error
    if not isinstance(content, dict) or STAMP not in content:
        raise UserError(f"{path} was not written by worldmodels; make one with: {make}")
    about = content[STAMP]
    if about["kind"] not in kinds:
        raise UserError(f"{path} holds a {about['kind']}, not a {' or '.join(kinds)}; make one with: {make}")
    optimizer = (content.get("optimizer_states") or [None])[0]
    facts = Facts(about["facts"], path, MAKES[about["kind"]])
    return Checkpoint(path, about["kind"], about["arguments"], facts, content["state_dict"], optimizer, sha256(path))


def export(checkpoint: Checkpoint, folder: Path, name: str, facts: dict[str, Any]) -> Path:
    """Write NAME.safetensors, in half precision, which `read` takes as well; NAME.json shows what it says of itself.

    facts: what it was made from; files of V and M by their names within the folder, tensors one level deep.
    """
    from safetensors.torch import save_file

    plain: dict[str, Any] = {}
    tensors = {f"state/{key}": value for key, value in checkpoint.state.items()}
    for key, value in facts.items():
        if isinstance(value, dict) and any(isinstance(part, torch.Tensor) for part in value.values()):
            tensors |= {f"facts/{key}/{part}": tensor for part, tensor in value.items()}
        else:
            plain[key] = value
    halved = {key: (value.half() if value.dtype == torch.float32 else value) for key, value in tensors.items()}
    path = folder / f"{name}.safetensors"
    about = json.dumps({"kind": checkpoint.kind, "arguments": checkpoint.arguments, "facts": plain}, indent=1)
    # within the file, so that its hash covers it; beside it, for people
    save_file({key: value.contiguous() for key, value in halved.items()}, path, {STAMP: about})
    path.with_suffix(".json").write_text(about + "\n")
    return path


def _exported(path: Path) -> dict[str, Any]:
    """What `export` wrote, as a checkpoint's content."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()[STAMP])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no dictionary
    state: dict[str, torch.Tensor] = {}
    facts: dict[str, Any] = about["facts"]
    for key, value in tensors.items():
        value = value.float() if value.dtype == torch.float16 else value
        room, _, rest = key.partition("/")
        if room == "state":
            state[rest] = value
        else:
            name, _, part = rest.partition("/")
            facts.setdefault(name, {})[part] = value
    for part in ("vision", "memory"):
        if facts.get(part) is not None:
            facts[part] = str(path.parent / Path(facts[part]).name)
    return {STAMP: about, "state_dict": state}


def require_same(name: str, wanted: str, found: Checkpoint, user: str) -> None:
    """Refuse a checkpoint other than the one that `user` was trained with; both hashes are named."""
    if found.sha256 != wanted:
        raise UserError(
            f"wrong {name} for {user}: it was trained with {wanted[:12]}, but {found.path} is {found.sha256[:12]}; "
            f"pass the checkpoint that its lineage.json names, or train it again"
        )


def build(cls: Any, checkpoint: Checkpoint) -> tuple[Any, Checkpoint]:
    """An evaluating instance of `cls` with the checkpoint's arguments and weights."""
    module = cls(**checkpoint.arguments)
    module.load_state_dict(checkpoint.state)
    module.facts, module.optimizer_state = checkpoint.facts, checkpoint.optimizer
    return module.eval(), checkpoint


def restored(optimizer: torch.optim.Optimizer, state: dict[str, Any] | None) -> torch.optim.Optimizer:
    """The optimiser, with its moments where training goes on; its learning rate stays the one asked for."""
    if state is not None:
        if len(state["param_groups"]) != len(optimizer.param_groups):
            raise UserError("training goes on with an algo.critic_learning_rate where it began without, or the reverse")
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(state)
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate
            group.pop("initial_lr", None)  # of a schedule that is over
    return optimizer
