"""What goes to W&B, without a network."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir

from worldmodels.evaluation.pictures import write_png, write_webm
from worldmodels.tracking import Run, StageResult

ROOT = Path(__file__).parents[1]


def run_of(tmp_path, mode, **wandb):
    settings = {"runs": str(tmp_path / "runs"), "seed": 4, "wandb": {"mode": mode, "project": "worldmodels", **wandb}}
    run = Run("train_controller", settings)
    run.begin("Some-v0", {}, {"torch": "2"}, world="dream")
    return run


def test_pictures_films_and_scores_of_an_offline_run(tmp_path, monkeypatch):
    """They lie in its folder, beside no key."""
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567")
    run = run_of(tmp_path, "offline", group="demo")
    frames = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8)
    write_png(run.folder / "strip.png", frames[0])
    write_webm(run.folder / "dream.webm", list(frames), 12.5)
    checkpoint = run.folder / "last.ckpt"
    checkpoint.write_bytes(b"weights")
    artefacts = {"checkpoint": checkpoint, "strip": run.folder / "strip.png", "film": run.folder / "dream.webm"}
    run.record(StageResult(3, "steps", "fine", artefacts, {"mean": 2.5}))
    tags, offline = run.experiment.tags, run.experiment.offline
    run.close()
    assert offline and {"Some-v0", "seed=4", "demo"} <= set(tags)
    (own,) = (run.folder / "wandb").glob("offline-run-*")
    media = [path.suffix for path in own.rglob("files/media/**/*") if path.is_file()]
    assert sorted(media) == [".png", ".webm"]
    assert list(own.glob("*.wandb"))
    for path in run.folder.rglob("*"):
        if path.is_file():
            assert b"0123456789abcdef" not in path.read_bytes(), f"a key in {path}"
    assert (run.folder / "metrics.csv").read_text().splitlines()[-1].count("2.5") == 1
    assert json.loads((run.folder / "lineage.json").read_text())["world"] == "dream"


def test_nothing_of_wandb_where_it_is_disabled(tmp_path):
    run = run_of(tmp_path, "disabled")
    run.record(StageResult(3, "steps", "fine", {}, {"mean": 2.5}))
    run.close()
    assert run.experiment is None and not (run.folder / "wandb").exists()


def test_checkpoints_are_artifacts_where_there_is_a_server(tmp_path):
    run = run_of(tmp_path, "disabled")
    checkpoint = run.folder / "last.ckpt"
    checkpoint.write_bytes(b"weights")

    class Experiment:
        offline = False

        def log_artifact(self, artifact):
            self.artifact = artifact

    run.experiment = Experiment()
    run.record(StageResult(3, "steps", "fine", {"checkpoint": checkpoint}, {}))
    artifact = run.experiment.artifact
    assert (artifact.name, artifact.type) == ("train_controller", "checkpoint")
    assert len(artifact.metadata["sha256"]) == 64 and artifact.metadata["inputs"] == {}
    assert list(artifact.manifest.entries) == ["last.ckpt"]


@pytest.mark.parametrize("sweep", sorted((ROOT / "configs" / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sweep_sets_what_there_is(sweep):
    """Each of its parameters, at its first value, is one that the script takes."""
    content = yaml.safe_load(sweep.read_text())
    overrides = []
    for name, about in content["parameters"].items():
        value = about.get("value", about.get("values", [about.get("min")])[0])
        overrides.append(f"{name}={value}")
    script = re.fullmatch(r"scripts/(\w+)\.py", content["program"])[1]
    assert (ROOT / content["program"]).exists()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        assert compose(script, overrides).vae == "runs/v.ckpt"
