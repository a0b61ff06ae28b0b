"""What runs read and make, as W&B artifacts: W&B then draws rollouts → V → latents → M → C.

One file stands for an artifact: a checkpoint, or the manifest of a store or of latents, which holds the sha256 of every
array. The arrays stay where they are. The file's own sha256 is an alias, by which later runs find what they read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .checkpoints import sha256

PATIENCE = 60  # seconds for an artifact that a run reads itself to be taken


def named(path: Path) -> tuple[str, str] | None:
    """Name and type of the artifact that `path` stands for; None for a checkpoint that does not lie in a run folder."""
    if path.name == "manifest.json":
        return _plain(f"rollouts-{path.parent.name}"), "dataset"
    if path.name == "index.json":
        return _plain(f"latents-{path.parent.parent.name}"), "dataset"
    told = path.with_name("lineage.json")
    return (json.loads(told.read_text())["stage"], "checkpoint") if told.is_file() else None


def alias(digest: str) -> str:
    """Of an artifact whose file has this sha256."""
    return f"sha256-{digest[:16]}"


def use(experiment: Any, path: Path, digest: str) -> bool:
    """Declare that the run read what `path` stands for. False where W&B was never told of it.

    Raises whatever W&B raises where it is out of reach.
    """
    from wandb.errors import CommError

    known = named(path)
    if known is None:
        return False
    try:
        experiment.use_artifact(f"{known[0]}:{alias(digest)}")
    except CommError as error:  # W&B has no type of its own for this
        if "not found" not in str(error):
            raise
        return False
    return True


def log(experiment: Any, path: Path, inputs: dict[str, Any]) -> Any:
    """Hand W&B what the run has made of `inputs`, each with its sha256."""
    import wandb

    known = named(path)
    if known is None:
        raise ValueError(f"{path} stands for nothing that a run makes")
    name, kind = known
    digest = sha256(path)
    artifact = wandb.Artifact(name, type=kind, metadata={"sha256": digest, "inputs": inputs})
    artifact.add_file(str(path))
    return experiment.log_artifact(artifact, aliases=["latest", alias(digest)])


def _plain(name: str) -> str:
    """As W&B wants names."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:128]
