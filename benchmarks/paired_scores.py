"""One controller's scores on the same tracks under two drawings, and the 95 % interval of the paired difference.

python scripts/evaluate.py checkpoint=$C evaluation.stock=true
python scripts/evaluate.py checkpoint=$C evaluation.stock=false
python benchmarks/paired_scores.py runs/evaluate/…/scores.json runs/evaluate/…/scores.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness import RESULTS, processor

from worldmodels.evaluation.statistics import summarize

WITHIN = 15.0  # what the interval's ends may be


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    stock, fast = (json.loads(Path(name).read_text()) for name in sys.argv[1:])
    if stock["seeds"] != fast["seeds"] or stock["policy"] != fast["policy"]:
        raise SystemExit("error: the two are not of one controller on the same tracks")
    found = summarize([b - a for a, b in zip(stock["returns"], fast["returns"], strict=True)])
    print(f"stock drawing: {summarize(stock['returns'])}")
    print(f"fast drawing:  {summarize(fast['returns'])}")
    print(f"fast − stock:  {found.mean:.1f} (95 % of the mean {found.low:.1f} to {found.high:.1f}, n={found.n})")
    keep = ("seeds", "returns", "environment", "policy")
    content = {"processor": processor(), "versions": stock["versions"], "difference": found._asdict()}
    content |= {name: {key: one[key] for key in keep} for name, one in (("stock", stock), ("fast", fast))}
    (RESULTS / "drawings.json").write_text(json.dumps(content, indent=1) + "\n")
    if max(-found.low, found.high) > WITHIN:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
