"""Frames as pictures and films. Frames are u8 RGB [H, W, 3]; OpenCV wants BGR, and only this file knows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError

MARGIN = 4
CAPTION = 22
PAPER, INK = 255, (40, 40, 40)


def enlarge(frame: np.ndarray, factor: int) -> np.ndarray:
    """Each pixel as a square of `factor`."""
    return frame.repeat(factor, 0).repeat(factor, 1)


def captioned(frame: np.ndarray, text: str) -> np.ndarray:
    """The frame below a line of text."""
    canvas = np.full((frame.shape[0] + CAPTION, frame.shape[1], 3), PAPER, np.uint8)
    canvas[CAPTION:] = frame
    cv2.putText(canvas, text, (3, CAPTION - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
    return canvas


def beside(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames of one height from left to right, a margin between them."""
    gap = np.full((frames[0].shape[0], MARGIN, 3), PAPER, np.uint8)
    parts = [part for frame in frames for part in (frame, gap)]
    return np.concatenate(parts[:-1], 1)


def grid(rows: Sequence[tuple[str, Sequence[np.ndarray]]], factor: int = 2) -> np.ndarray:
    """Rows of equally many frames, each with its name above the first: reconstruction grids and filmstrips."""
    lines = []
    for name, frames in rows:
        strip = beside([enlarge(frame, factor) for frame in frames])
        lines += [captioned(strip, name), np.full((MARGIN, strip.shape[1], 3), PAPER, np.uint8)]
    return np.concatenate(lines[:-1], 0)


def write_png(path: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


@contextmanager
def _without_stderr() -> Iterator[None]:
    """FFmpeg within OpenCV warns, past Python, that it does not know a tag which it then writes correctly."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def write_webm(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """VP8 in WebM, which every browser plays. Raises UserError where OpenCV was built without it."""
    height, width = frames[0].shape[:2]
    size = (width + width % 2, height + height % 2)  # VP8 wants even sides
    with _without_stderr():
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), fps, size)
    if not writer.isOpened():
        raise UserError(f"this OpenCV cannot write {path}; run: pip install -c constraints.txt opencv-python-headless")
    for frame in frames:
        even = cv2.copyMakeBorder(
            frame, 0, size[1] - height, 0, size[0] - width, cv2.BORDER_CONSTANT, value=(PAPER,) * 3
        )
        writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
    writer.release()


def write_webp(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """An animated picture that begins again for ever, for pages that show pictures but no films."""
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) for frame in frames]
    milliseconds = np.full(len(frames), round(1000 / fps))
    animation.durations = milliseconds  # pyright: ignore[reportAttributeAccessIssue]
    if not cv2.imwriteanimation(str(path), animation, [cv2.IMWRITE_WEBP_QUALITY, 85]):
        raise UserError(f"this OpenCV cannot write {path}; run: pip install -c constraints.txt opencv-python-headless")
