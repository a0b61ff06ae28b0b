"""The direction of the imports, as setup.cfg states it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_imports_go_one_way():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", "setup.cfg"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_package_never_sees_hydra():
    for path in (ROOT / "worldmodels").rglob("*.py"):
        assert "import hydra" not in path.read_text() and "omegaconf" not in path.read_text(), path
