"""Files that are either whole or absent."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError


def sync(path: Path) -> None:
    """Force a file or a folder's entries onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file, see `write_text`. Lists of numbers stand on one line."""
    text = json.dumps(content, indent=1)
    text = re.sub(r"\[\n[\d\s.,eE+\[\]-]+\]", lambda numbers: " ".join(numbers[0].split()), text)
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    sync(temporary)
    temporary.rename(path)
    sync(path.parent)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array and force it onto the disk."""
    np.save(path, np.ascontiguousarray(array), allow_pickle=False)
    sync(path)


def require_space(folder: Path, size: int) -> None:
    """Raise UserError where `size` bytes would not fit with a margin of 64 MiB."""
    free = shutil.disk_usage(folder).free
    if free < size + (64 << 20):
        raise UserError(f"{folder} has {free >> 20} MiB free and {size >> 20} MiB are needed; free some disk space")
