"""Snapshots of a controller, ranked in the dream and in the real environment."""

import json
from pathlib import Path

import pytest

from worldmodels.errors import UserError
from worldmodels.stages.comparison import compare_worlds, rank_controllers
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
    settings["controller"] |= {"snapshots": 3, "snapshots_after": 0.4}  # after 3.6 of 9, 1.8 apart
    rows = {row.stage: row for row in run_pipeline(settings)}
    kept = [name for name in rows["C in the dream"].artefacts if name.startswith("snapshot_")]
    assert kept == [f"snapshot_{n:08d}" for n in (5, 7, 9)]
    for wrong in ({"snapshots_after": 1.0}, {"snapshots_after": -0.1}, {"snapshots_after": 0.9}, {"snapshots": -1}):
        with pytest.raises(UserError, match="do not fit into algo"):
            run_pipeline({**settings, "controller": {**settings["controller"], **wrong}})


def test_a_presets_dream_ranks_a_c_from_nothing(small, tmp_path):
    """V, M, C by the preset's rounds, then another C, whose snapshots are ranked; run again, nothing is made twice."""
    options = ("dreams=3", "horizon=4", "episodes=2", "snapshots=3", f"results={tmp_path / 'results'}")
    settings = small("rank_controllers", "rounds=2", *options)
    settings["again"]["memory"] = {"update_steps": 4}
    settings["algo"] |= {"updates": 6, "steps": 4}
    found = json.loads(rank_controllers(settings).read_text())
    assert [one["update"] for one in found["controllers"]] == [2, 4, 6]
    assert all(len(one["dream"]) == 3 and len(one["real"]) == 2 for one in found["controllers"])
    assert -1 <= found["rank_correlation"]["value"] <= 1 and found["horizon"] == 4
    finished = Path(settings["runs"]) / "pipeline" / "small" / "finished.json"
    rows = {one["row"]["stage"]: one["row"] for one in json.loads(finished.read_text()).values()}
    assert {"collect 2", "V 2", "M 2", "C in the dream 2", "C in the dream, from nothing", "both worlds"} <= rows.keys()
    ranked = rows["C in the dream, from nothing"]["artefacts"]["checkpoint"]
    lineage = json.loads((Path(ranked).parent / "lineage.json").read_text())["inputs"]
    assert Path(lineage["memory"]["path"]) == Path(rows["M 2"]["artefacts"]["checkpoint"]), "the last round's M"
    assert "continued" not in lineage
    before = finished.read_bytes()
    again = json.loads(rank_controllers(settings).read_text())
    assert again["controllers"] == found["controllers"] and finished.read_bytes() == before
    with pytest.raises(UserError, match="snapshots is 3 there, 4 here"):
        rank_controllers({**settings, "snapshots": 4})
    with pytest.raises(UserError, match="snapshots=2"):
        rank_controllers({**settings, "snapshots": 2})
    with pytest.raises(UserError, match="world=dream"):
        rank_controllers({**settings, "world": "latent"})
