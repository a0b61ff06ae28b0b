"""All contests, or those whose number begins with what is given: make bench, or python benchmarks/run.py 1 4"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import torch
from contests import CONTESTS
from harness import compete, save, show


def main() -> None:
    chosen = tuple(sys.argv[1:])
    results, started = [], time.perf_counter()
    contests = dict(CONTESTS)
    if torch.cuda.is_available():
        from gpu import GPU_CONTESTS

        contests |= GPU_CONTESTS
    else:
        print("row 8 is skipped: no CUDA device")
    for number, make in contests.items():
        if chosen and not number.startswith(chosen):
            continue
        result = compete(make())
        print(f"{number} {result['work']}: {result['ratio']:.2f} (target {result['target']:g})", flush=True)
        results.append(result)
    show(results)
    print(f"{time.perf_counter() - started:.0f} seconds")
    save("gpu" if torch.cuda.is_available() else "cpu", results)


if __name__ == "__main__":
    main()
