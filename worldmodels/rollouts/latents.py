"""A store's frames seen once through V, and kept: data/latents/STORE/HASH_OF_V/000042.npy, f32 [T+1, 2, Z]."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import sha256
from ..types import Posterior
from .files import require_space, sync, write_array, write_json
from .store import RolloutStore


def folder_of(store: RolloutStore, vision_sha256: str, root: Path) -> Path:
    """Where the latents of a store lie as the V with that hash sees it; its index.json has their sha256."""
    return root / store.folder.name / vision_sha256[:16]


def encode_store(
    store: RolloutStore,
    encode: Callable[[Tensor], Posterior],
    vision_sha256: str,
    root: Path,
    advance: Callable[[int], None],
    batch_size: int = 512,
) -> dict[str, np.ndarray]:
    """Mean and log_std of each episode's frames by shard, memory-mapped; what V has already encoded is not done again.

    encode: u8 [N, H, W, C] to Posterior [N, Z]; advance: called with the number of frames done.
    """
    folder = folder_of(store, vision_sha256, root)
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "index.json"
    # per shard: what the frames were, and what their latents are
    try:
        known: dict[str, list[str]] = json.loads(index.read_text()) if index.exists() else {}
    except ValueError:
        known = {}  # a damaged index only costs encoding again
    result = {}
    try:
        for entry in store.entries:
            path = folder / f"{entry.shard}.npy"
            source = entry.sha256["observation"]
            frames, latent_hash = known.get(entry.shard, ("", ""))
            if not (frames == source and path.is_file() and sha256(path) == latent_hash):
                observation = store.read(entry).observation
                chunks = []
                for begin in range(0, len(observation), batch_size):
                    posterior = encode(torch.from_numpy(np.array(observation[begin : begin + batch_size])))
                    chunks.append(torch.stack(posterior, 1).float().cpu().numpy())
                latents = np.concatenate(chunks)
                require_space(folder, latents.nbytes)
                temporary = path.with_suffix(".tmp.npy")
                write_array(temporary, latents)
                known[entry.shard] = [source, sha256(temporary)]
                temporary.rename(path)
                sync(folder)
            advance(entry.length + 1)
            result[entry.shard] = np.load(path, mmap_mode="r", allow_pickle=False)
    finally:  # what is done stays done
        write_json(index, known)
    return result
