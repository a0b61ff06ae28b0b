"""Snapshots of a controller, ranked in the dream and in the real environment."""

import json
from pathlib import Path

import pytest

from worldmodels.errors import UserError
from worldmodels.stages.comparison import compare_worlds
from worldmodels.stages.pipeline import run_pipeline
from worldmodels.tracking import Run


def test_controllers_are_ranked_in_both_worlds(settings, tmp_path):
    settings |= {"rounds": 1}
    settings["controller"]["snapshots"] = 4
    settings["algo"]["updates"] = 9
    rows = {row.stage: row for row in run_pipeline(settings)}
    folder = Path(rows["C in the dream"].artefacts["checkpoint"]).parent
    assert [path.stem for path in sorted(folder.glob("snapshot_*"))] == [f"snapshot_{n:08d}" for n in (2, 4, 7, 9)]
    options = {"dreams": 3, "horizon": 4, "temperature": 1.0, "episodes": 2, "num_envs": 2, "asynchronous": False}
    run = Run("compare_worlds", settings)
    result = compare_worlds(run, str(folder), **options, seed=0, device="cpu")
    found = json.loads(result.artefacts["comparison"].read_text())
    assert [len(one["dream"]) for one in found["controllers"]] == [3] * 4
    assert [len(one["real"]) for one in found["controllers"]] == [2] * 4
    assert found["rank_correlation"]["value"] == result.scores["rank_correlation"]
    assert result.artefacts["picture"].stat().st_size > 1000
    with pytest.raises(UserError, match="0 controllers"):
        compare_worlds(run, str(tmp_path), **options, seed=0)
    settings["controller"]["snapshots"] = 10
    with pytest.raises(UserError, match="snapshots=10"):
        run_pipeline(settings)
    settings["controller"]["snapshots"] = 5  # every other one; the trainer's own checkpoints have that rhythm too
    settings["algo"]["updates"] = 9
    rows = {row.stage: row for row in run_pipeline(settings)}
    folder = Path(rows["C in the dream"].artefacts["checkpoint"]).parent
    assert len(list(folder.glob("snapshot_*"))) == 5 and (folder / "snapshot_00000009.ckpt").exists()
