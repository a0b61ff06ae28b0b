"""Controllers' scores on the same tracks under two drawings, and the 95 % interval of the paired difference.

python scripts/evaluate.py checkpoint=$C evaluation.stock=true
python scripts/evaluate.py checkpoint=$C evaluation.stock=false
python benchmarks/paired_scores.py runs/evaluate/…/scores.json runs/evaluate/…/scores.json

Stock first; pairs of further controllers may follow, and are told one by one and all together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from harness import RESULTS

from worldmodels.envs.make import processor
from worldmodels.evaluation.statistics import summarize

WITHIN = 15.0  # what the interval's ends may be
KEPT = ("seeds", "returns", "environment", "policy")


def differences(stock: dict[str, Any], fast: dict[str, Any]) -> list[float]:
    """Fast − stock for each track, said aloud."""
    if stock["seeds"] != fast["seeds"] or stock["policy"] != fast["policy"]:
        raise SystemExit("error: the two are not of one controller on the same tracks")
    found = [b - a for a, b in zip(stock["returns"], fast["returns"], strict=True)]
    print(f"stock drawing: {summarize(stock['returns'])}\nfast drawing:  {summarize(fast['returns'])}")
    tell(found)
    return found


def tell(found: list[float]) -> None:
    summary = summarize(found)
    print(
        f"fast − stock:  {summary.mean:.1f} (95 % of the mean {summary.low:.1f} to {summary.high:.1f}, n={summary.n})"
    )


def main() -> None:
    names = sys.argv[1:]
    if not names or len(names) % 2:
        raise SystemExit(__doc__)
    files = [json.loads(Path(name).read_text()) for name in names]
    pairs = list(zip(files[::2], files[1::2], strict=True))
    found = [difference for stock, fast in pairs for difference in differences(stock, fast)]
    if len(pairs) > 1:
        print(f"all {len(pairs)} controllers")
        tell(found)
    summary = summarize(found)
    content: dict[str, Any] = {"processor": processor(), "versions": files[0]["versions"]}
    content["difference"] = summary._asdict()
    content["controllers"] = [
        {name: {key: one[key] for key in KEPT} for name, one in (("stock", stock), ("fast", fast))}
        for stock, fast in pairs
    ]
    (RESULTS / "drawings.json").write_text(json.dumps(content, indent=1) + "\n")
    if max(-summary.low, summary.high) > WITHIN:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
