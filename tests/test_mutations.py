import subprocess
import sys
from pathlib import Path

from mutations import FAULTS


def test_every_planted_fault_is_noticed():
    """Each breaks the mathematics of the returns, estimators, policies or learners in one place."""
    assert len(FAULTS) >= 20
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("mutations.py")], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{len(FAULTS)} faults"]
