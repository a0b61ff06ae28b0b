"""What goes to W&B, without a network."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
import yaml
from hydra import compose, initialize_config_dir
from wandb_server import KEY, StandIn

from worldmodels import tracking
from worldmodels.evaluation.pictures import write_png, write_webm
from worldmodels.tracking import Run, StageResult

ROOT = Path(__file__).parents[1]


def run_of(tmp_path, mode, stage="train_controller", inputs=None, **wandb):
    settings = {"runs": str(tmp_path / "runs"), "seed": 4, "wandb": {"mode": mode, "project": "worldmodels", **wandb}}
    run = Run(stage, settings)
    run.begin("Some-v0", inputs or {}, {"torch": "2"}, world="dream")
    return run


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def assert_no_key_in(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            assert KEY[:16].encode() not in path.read_bytes(), f"a key in {path}"


def test_pictures_films_and_scores_of_an_offline_run(tmp_path, monkeypatch):
    """They lie in its folder, beside no key."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    run = run_of(tmp_path, "offline", group="guarded", tags=["demo", "guarded"])
    frames = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8)
    write_png(run.folder / "strip.png", frames[0])
    write_webm(run.folder / "dream.webm", list(frames), 12.5)
    checkpoint = run.folder / "last.ckpt"
    checkpoint.write_bytes(b"weights")
    artefacts = {"checkpoint": checkpoint, "strip": run.folder / "strip.png", "film": run.folder / "dream.webm"}
    run.record(StageResult(3, "steps", "fine", artefacts, {"mean": 2.5}))
    tags, offline = run.experiment.tags, run.experiment.offline
    run.close()
    assert offline and tags == ("Some-v0", "seed=4", "guarded", "demo"), "each once"
    (own,) = (run.folder / "wandb").glob("offline-run-*")
    media = [path.suffix for path in own.rglob("files/media/**/*") if path.is_file()]
    assert sorted(media) == [".png", ".webm"]
    assert list(own.glob("*.wandb"))
    assert_no_key_in(run.folder)
    assert (run.folder / "metrics.csv").read_text().splitlines()[-1].count("2.5") == 1
    assert json.loads((run.folder / "lineage.json").read_text())["world"] == "dream"


def test_nothing_of_wandb_where_it_is_disabled(tmp_path):
    run = run_of(tmp_path, "disabled")
    run.record(StageResult(3, "steps", "fine", {}, {"mean": 2.5}))
    run.close()
    assert run.experiment is None and not (run.folder / "wandb").exists()


class Experiment:
    """W&B where it is online: it knows some artifacts by name and alias, and notes what it is told."""

    offline = False

    def __init__(self, known=(), breaks=None):
        self.known, self.breaks, self.made, self.used, self.logged = known, breaks, [], [], []

    def use_artifact(self, name):
        if self.breaks:
            raise self.breaks
        if name not in self.known:
            raise wandb.errors.CommError(f"artifact membership {name!r} not found in 'me/worldmodels'")
        self.used.append(name)

    def log_artifact(self, artifact, aliases):
        self.made.append((artifact, aliases))

    def log(self, row):
        self.logged.append(row)


def test_checkpoints_are_artifacts_where_there_is_a_server(tmp_path):
    run = run_of(tmp_path, "disabled")
    checkpoint = written(run.folder / "last.ckpt", "weights")
    run.experiment = Experiment()
    run.record(StageResult(3, "steps", "fine", {"checkpoint": checkpoint}, {}))
    ((artifact, aliases),) = run.experiment.made
    assert (artifact.name, artifact.type) == ("train_controller", "checkpoint")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert artifact.metadata == {"sha256": digest, "inputs": {}}
    assert aliases == ["latest", f"sha256-{digest[:16]}"]
    assert list(artifact.manifest.entries) == ["last.ckpt"]


def test_a_store_is_an_artifact_by_its_manifest_alone(tmp_path):
    manifest = written(tmp_path / "rollouts" / "fast driving" / "manifest.json", "{}")
    written(manifest.parent / "shards" / "000000" / "observation.npy", "gigabytes")
    run = run_of(tmp_path, "disabled", "collect")
    run.experiment = Experiment()
    run.record(StageResult(3, "frames", "fine", {"store": manifest.parent}, {}))
    ((artifact, _),) = run.experiment.made
    assert (artifact.name, artifact.type) == ("rollouts-fast_driving", "dataset")
    assert list(artifact.manifest.entries) == ["manifest.json"]


def test_inputs_are_declared_as_far_as_wandb_knows_them(tmp_path):
    """V came from a run that W&B knows by its content, the store from one that was offline, C from nowhere."""
    before = run_of(tmp_path, "disabled", "train_vae")
    vision = written(before.folder / "best.ckpt", "weights of V")
    store = written(tmp_path / "rollouts" / "a" / "manifest.json", "{}")
    stray = written(tmp_path / "elsewhere" / "last.ckpt", "weights of C")
    inputs = {"vision": vision, "store_0": store, "continued": stray}
    known = f"train_vae:sha256-{hashlib.sha256(b'weights of V').hexdigest()[:16]}"
    run = run_of(tmp_path, "disabled", inputs=inputs)
    run.experiment = Experiment({known})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.record(StageResult(3, "steps", "fine", {"checkpoint": written(run.folder / "last.ckpt", "weights")}, {}))
    assert run.experiment.used == [known]
    ((artifact, _),) = run.experiment.made
    assert set(artifact.metadata["inputs"]) == {"vision", "store_0", "continued"}


@pytest.mark.parametrize("error", [wandb.errors.CommError("no route to host"), OSError("no space"), KeyError("new")])
def test_a_server_that_fails_costs_one_warning(tmp_path, error):
    store = written(tmp_path / "rollouts" / "a" / "manifest.json", "{}")
    run = run_of(tmp_path, "disabled", inputs={"store_0": store, "store_1": store})
    checkpoint = written(run.folder / "last.ckpt", "weights")
    run.experiment = Experiment(breaks=error)
    with pytest.warns(UserWarning, match=type(error).__name__) as caught:
        run.record(StageResult(3, "steps", "fine", {"checkpoint": checkpoint}, {}))
    assert len(caught) == 1
    assert len(run.experiment.made) == 1, "its checkpoint is there all the same"
    assert (run.folder / "metrics.csv").exists()


def test_bars_of_what_is_finite():
    run = Run("train_vae", {"seed": 0, "wandb": {"mode": "offline"}})
    run.bars("nobody sees", torch.ones(3), 1)
    run.experiment = Experiment()
    run.bars("validation/kl", torch.tensor([2.0, 0.5, 0.0]), 7)
    run.bars("validation/kl", torch.tensor([2.0, torch.nan]), 8)
    (row,) = run.experiment.logged
    assert row["update_step"] == 8, "updates that were taken"
    assert (row["validation/kl"].histogram, row["validation/kl"].bins) == ([2.0, 0.5, 0.0], [0, 1, 2, 3])
    run.bars("validation/kl", torch.ones(1000), 9)
    assert len(run.experiment.logged[-1]["validation/kl"].histogram) == 512, "W&B draws no more"


def test_lineage_from_rollouts_to_c_as_wandb_draws_it(tmp_path, wandb_server):
    """The real client beside a stand-in for the server. M is trained twice on the same latents."""

    def stage(name, inputs, made, *derived):
        run = run_of(tmp_path, "online", name, inputs)
        for one in derived:
            run.derive(*one)
        path = made or {"checkpoint": written(run.folder / "best.ckpt", name + run.folder.name)}
        run.record(StageResult(1, "steps", "fine", path, {"mean": 1.0}))
        assert not run.experiment.offline
        run.close()
        return path.get("checkpoint")

    manifest = written(tmp_path / "rollouts" / "a" / "manifest.json", "{}")
    index = written(tmp_path / "latents" / "a" / "0123456789abcdef" / "index.json", "[]")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*W&B.*")
        stage("collect", {}, {"store": manifest.parent})
        vision = stage("train_vae", {"store_0": manifest}, None)
        both = {"store_0": manifest, "vision": vision}
        for _ in range(2):
            memory = stage("train_mdnrnn", both, None, (index, "store_0", "vision"))
        stage("train_controller", {"vision": vision, "memory": memory}, None)
    assert not wandb_server.strange
    # in any order: uploads go their own way
    assert sorted(made[:2] for made in wandb_server.made) == [
        ("collect", "rollouts-a"),
        ("derive", "latents-a"),
        ("train_controller", "train_controller"),
        ("train_mdnrnn", "train_mdnrnn"),
        ("train_mdnrnn", "train_mdnrnn"),
        ("train_vae", "train_vae"),
    ]
    of_memory = [("train_mdnrnn", name) for name in ("rollouts-a", "train_vae", "latents-a")]
    assert wandb_server.used == [
        ("train_vae", "rollouts-a"),
        *of_memory[:2],
        ("derive", "rollouts-a"),
        ("derive", "train_vae"),
        of_memory[2],
        *of_memory,
        ("train_controller", "train_vae"),
        ("train_controller", "train_mdnrnn"),
    ]
    for _, name, aliases, metadata in wandb_server.made:
        assert set(aliases) == {"latest", f"sha256-{metadata['sha256'][:16]}"}, name
    assert_no_key_in(tmp_path)


def test_a_server_that_goes_away_neither_stops_nor_kills(tmp_path, monkeypatch, wandb_server):
    monkeypatch.setattr(tracking, "FINISH", 2)
    monkeypatch.setattr(wandb.Api, "_HTTP_TIMEOUT", 2)
    store = written(tmp_path / "rollouts" / "a" / "manifest.json", "{}")
    run = run_of(tmp_path, "online", inputs={f"store_{number}": store for number in range(20)})
    run.loggers()
    assert not run.experiment.offline
    wandb_server.__exit__()
    run.bars("validation/kl", torch.ones(3), 1)
    checkpoint = written(run.folder / "last.ckpt", "weights")
    started = time.perf_counter()
    with pytest.warns(UserWarning, match="its lineage.json tells it"):
        run.record(StageResult(3, "steps", "fine", {"checkpoint": checkpoint}, {"mean": 2.5}))
    with pytest.warns(UserWarning, match="wandb sync"):
        run.close()
    assert time.perf_counter() - started < 20, "20 inputs are not waited for one by one"


def test_without_a_network_the_first_run_alone_waits_and_warns(tmp_path, monkeypatch):
    """Nobody listens at the address; the second run of the process is offline at once, without a word."""
    monkeypatch.setattr(tracking, "REACH", 2)
    monkeypatch.setattr(Run, "unreachable", False)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    started = time.perf_counter()
    with pytest.warns(UserWarning, match="out of reach") as caught:
        first = run_of(tmp_path, "online")
        first.record(StageResult(1, "steps", "fine", {}, {"mean": 1.0}))
        first.close()
    assert len([one for one in caught if "W&B" in str(one.message)]) == 1
    assert first.experiment.offline and time.perf_counter() - started < 20
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = run_of(tmp_path, "online")
        second.record(StageResult(1, "steps", "fine", {}, {"mean": 2.0}))
        second.close()
    assert second.experiment.offline and time.perf_counter() - started < 20
    for run in (first, second):
        assert list((run.folder / "wandb").glob("offline-run-*")) and (run.folder / "metrics.csv").exists()


def test_a_run_whose_end_breaks_is_not_lost(tmp_path, monkeypatch):
    run = run_of(tmp_path, "disabled")

    class Broken:
        def finish(self):
            raise ConnectionResetError

    monkeypatch.setitem(sys.modules, "wandb", Broken())
    with pytest.warns(UserWarning, match=r"ConnectionResetError.*wandb sync"):
        run.close()


def test_an_offline_run_is_synced_from_where_it_was_moved_to(tmp_path, monkeypatch):
    """By `wandb sync` as typed, to a stand-in for the server: rows, bars, pictures, films; nothing of the old place
    is needed, and no key is in any file before or after."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    run = run_of(tmp_path / "old", "offline", group="demo")
    frames = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8)
    write_png(run.folder / "strip.png", frames[0])
    write_webm(run.folder / "dream.webm", list(frames), 12.5)
    originals = {path.suffix: path.read_bytes() for path in (run.folder / "strip.png", run.folder / "dream.webm")}
    artefacts = {"strip": run.folder / "strip.png", "film": run.folder / "dream.webm"}
    for logger in run.loggers():
        logger.log_metrics({"train/mean": 1.5}, step=10)
    run.bars("validation/kl", torch.tensor([2.0, 0.5]), 10)
    run.record(StageResult(3, "steps", "fine", artefacts, {}))
    run.close()
    moved = tmp_path / "new place" / "run"
    moved.parent.mkdir()
    shutil.move(run.folder, moved)
    shutil.rmtree(tmp_path / "old")
    (offline,) = (moved / "wandb").glob("offline-run-*")
    with StandIn() as server:
        own = {"WANDB_BASE_URL": server.url, "HOME": str(tmp_path), "WANDB_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(
            [Path(sys.executable).with_name("wandb"), "sync", offline],
            cwd=tmp_path,
            env={**{name: os.environ[name] for name in ("PATH", "WANDB_API_KEY")}, **own},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not server.strange and list(server.runs) == [offline.name.rsplit("-", 1)[1]]
    (got,) = server.runs.values()
    assert got["complete"] and got["job"] == "train_controller"
    told = {name: value for row in got["history"] for name, value in row.items()}
    assert told["train/mean"] == 1.5 and told["trainer/global_step"] == 10
    assert told["validation/kl"] == {"_type": "histogram", "values": [2, 0.5], "bins": [0, 1, 2]}
    for name in ("pictures/strip", "films/dream"):
        assert got["files"][told[name]["path"]] == originals[Path(told[name]["path"]).suffix], name
    assert_no_key_in(tmp_path)


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
