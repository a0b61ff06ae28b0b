"""The whole way on a small environment, in one process: it runs, resumes, and notices what has changed."""

import html
import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from worldmodels.errors import UserError
from worldmodels.stages.comparison import compare_worlds
from worldmodels.stages.controller import train_controller
from worldmodels.stages.pipeline import Pipeline, key_of, merged, report, run_pipeline
from worldmodels.stages.report import curves_of
from worldmodels.stages.report import report as report_page
from worldmodels.stages.study import _world_model
from worldmodels.stages.temperatures import sweep_temperature
from worldmodels.tracking import Run, StageResult

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path, blob_settings):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("run_pipeline", ["preset=demo", "name=small", "wandb.mode=disabled", "device=cpu"])
    plain = OmegaConf.to_container(config, resolve=True)
    plain |= {"env": blob_settings, "rounds": 2, "runs": str(tmp_path / "runs"), "data": str(tmp_path / "data")}
    plain["collect"] |= {"episodes": 4, "validation_every": 2, "max_steps": 20}
    plain["again"]["collect"] |= {"episodes": 3, "max_steps": None}
    plain["vision"] |= {"update_steps": 6, "validations": 2, "batch_size": 8}
    plain["vision"]["model"] |= {"latent_dim": 4, "width": 0.25}
    small = {"update_steps": 6, "validations": 2, "batch_size": 4, "window": 6, "context": 3, "starts": 16}
    plain["memory"] |= small
    plain["memory"]["model"] |= {"hidden_dim": 8}
    plain["again"]["memory"] = {"update_steps": 4}
    plain["controller"] |= {"batch": 8, "horizon": 4}
    plain["algo"] |= {"updates": 2, "steps": 4}
    plain["evaluation"] |= {"episodes": 2}
    plain["video"] |= {"steps": 5, "skip": 3}
    return plain


def test_it_runs_resumes_and_notices_changes(settings, capsys):
    rows = run_pipeline(settings)
    stages = [row.stage for row in rows]
    assert stages[:4] == ["collect 1", "V 1", "M 1", "C in the dream 1"]
    assert stages[-3:] == ["evaluate C", "evaluate random", "video"]
    assert not any(row.resumed for row in rows)
    for row in rows:
        assert all(Path(path).exists() for path in row.artefacts.values())

    again = run_pipeline(settings)
    assert all(row.resumed for row in again)
    assert [row.artefacts for row in again] == [row.artefacts for row in rows]
    report(again)
    printed = capsys.readouterr().out
    assert "random policy" in printed and "n=2" in printed and "C in the dream 2" in printed

    # a changed setting of M redoes M and all that follows from it, and nothing before
    settings["memory"]["model"]["reward_weight"] = 2.0
    resumed = {row.stage: row.resumed for row in run_pipeline(settings)}
    assert resumed["collect 1"] and resumed["V 1"] and resumed["evaluate random"]
    assert not resumed["M 1"] and not resumed["C in the dream 1"] and not resumed["evaluate C"]


def test_rounds_are_looked_at_the_best_is_scored_and_patience_ends(settings, monkeypatch, capsys):
    """C's validation means are made up: 3, 5, 4, 2. The second is scored, the fourth is the last of six."""
    from worldmodels.stages import pipeline as module

    settings["rounds"] = 6
    settings["validation"] |= {"episodes": 2, "patience": 2}
    settings["guard"] |= {"dreams": 8, "repair": ["temperature"]}
    means, temperatures = iter((3.0, 5.0, 4.0, 2.0)), []
    played, learned = module.evaluate, module.train_controller

    def evaluate(run, **options):
        result = played(run, **options)
        if options["split"] == "validation":
            result.scores["mean"] = next(means)
        return result

    def train_controller(run, **options):
        temperatures.append(options["temperature"])
        return learned(run, **options)

    monkeypatch.setattr(module, "evaluate", evaluate)
    monkeypatch.setattr(module, "train_controller", train_controller)
    monkeypatch.setattr(module, "payable", lambda *_: -100.0)  # any dream is too good
    rows = run_pipeline(settings)
    by_stage = {row.stage: row for row in rows}
    assert "C in the dream 4" in by_stage and "C in the dream 5" not in by_stage
    read = json.loads(Path(by_stage["evaluate C"].artefacts["scores"]).read_text())["policy"]["controller"]
    assert read["path"] == by_stage["C in the dream 2"].artefacts["checkpoint"]
    rounds = json.loads((Path(settings["runs"]) / "pipeline" / "small" / "rounds.json").read_text())
    assert [one["validation"] for one in rounds] == [3, 5, 4, 2]
    assert all(one["gap"] == one["dream_reward"] - one["real_reward"] for one in rounds)
    frames = [row.scores["frames"] for row in rows if row.stage.startswith(("collect", "validate"))]
    assert rounds[-1]["frames"] == sum(frames) > rounds[0]["frames"] > 0
    assert temperatures == pytest.approx([1.15**times for times in range(4)])
    printed = capsys.readouterr().out
    assert printed.count("warning: the dream pays") == 4 and "these were the last" in printed


def test_a_seed_of_a_study(settings):
    """All real frames count; the curve is that of the validation scores, or of the training in the latent world."""
    settings |= {"name": "own", "world": "latent", "rounds": 1}
    settings["algo"]["updates"] = 20  # a multiple of ten is logged
    found = _world_model(settings, seed=3)
    folder = Path(settings["runs"]) / "pipeline" / "studies_s3"
    rows = {row["row"]["stage"]: row["row"] for row in json.loads((folder / "finished.json").read_text()).values()}
    collected, trained = rows["collect"]["scores"]["frames"], rows["C in the latent world"]["scores"]["env_steps"]
    assert found["env_steps"] == collected + trained and trained == 20 * 4 * settings["env"]["num_envs"]
    assert found["curve"] and found["curve"][-1][0] == found["env_steps"]
    assert len(found["returns"]) == 2 and found["seconds"] > 0 and len(found["rounds"]) == 1
    settings["validation"]["episodes"] = 1
    looked = _world_model(settings, seed=3)
    assert looked["curve"] == [(looked["env_steps"], pytest.approx(looked["rounds"][0]["validation"], abs=1e-3))]
    assert looked["env_steps"] > found["env_steps"], "validation tracks cost frames as well"


def test_a_sweep_of_temperatures(settings, tmp_path):
    """V and M are made once, each learner dreams at each temperature; run again, nothing is made twice."""
    linear = {**settings["policy"], "hidden": []}
    evolution = {"name": "cmaes", "generations": 1, "population": 4, "episodes": 1, "sigma": 0.1, "max_steps": 4}
    settings |= {
        "learners": {
            "a2c": {"algo": settings["algo"], "policy": settings["policy"]},
            "cmaes": {"algo": {**evolution, "bias": True}, "policy": linear},
        },
        "temperatures": [0.5, 1.2],
        "dreams": 3,
        "results": str(tmp_path / "results"),
    }
    found = json.loads(sweep_temperature(settings).read_text())
    tried = [(one["learner"], one["temperature"]) for one in found["controllers"]]
    assert tried == [("a2c", 0.5), ("a2c", 1.2), ("cmaes", 0.5), ("cmaes", 1.2)]
    assert all(len(one["dream"]) == 3 and len(one["real"]) == 2 for one in found["controllers"])
    assert len(found["random"]) == 2 and found["env_steps"] > 0
    finished = Path(settings["runs"]) / "pipeline" / "small" / "finished.json"
    rows = [one["row"]["stage"] for one in json.loads(finished.read_text()).values()]
    assert rows.count("V") == rows.count("M") == 1 and "dream of C, cmaes, τ 1.2" in rows
    before = finished.read_bytes()
    assert json.loads(sweep_temperature(settings).read_text()) == found and finished.read_bytes() == before
    with pytest.raises(UserError, match="nothing to compare"):
        sweep_temperature({**settings, "temperatures": []})
    with pytest.raises(UserError, match="dreams is 3 there, 4 here"):
        sweep_temperature({**settings, "dreams": 4})
    more = json.loads(sweep_temperature({**settings, "temperatures": [0.8]}).read_text())["controllers"]
    assert [one["temperature"] for one in more] == [0.5, 0.8, 1.2] * 2, "the others are kept"


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


def test_rivals_of_a_doubted_dream(settings):
    """Trained beside M from other weights, in the second round they go on; C names them among its inputs."""
    settings["controller"]["doubt"] = 2.0
    settings["guard"]["rivals"] = 1
    rows = {row.stage: row for row in run_pipeline(settings)}
    rivals = [rows[f"rival of M {number}, 1"].artefacts["checkpoint"] for number in (1, 2)]
    lineage = [json.loads(Path(path).with_name("lineage.json").read_text()) for path in rivals]
    assert lineage[1]["inputs"]["continued"]["path"] == rivals[0]
    own = json.loads(Path(rows["C in the dream 2"].artefacts["checkpoint"]).with_name("lineage.json").read_text())
    assert own["inputs"]["rival_0"]["path"] == rivals[1] != rows["M 2"].artefacts["checkpoint"]
    for wrong in ({"doubt": 1.0}, {"rivals": [rivals[0]]}, {"doubt": -1.0, "rivals": [rivals[0]]}):
        learning = {**settings["controller"], "doubt": 0.0, **wrong}
        models = {"vision": rows["V 2"].artefacts["checkpoint"], "memory": rows["M 2"].artefacts["checkpoint"]}
        rest = {"algo": settings["algo"], "policy": settings["policy"], "num_envs": 2, "asynchronous": False}
        with pytest.raises(UserError, match="rivals' disagreement"):
            train_controller(Run("c", settings), **models, world="dream", **learning, **rest, seed=0, device="cpu")


def test_two_at_once_under_one_name_both_stay_known(tmp_path):
    settings = {"runs": str(tmp_path), "seed": 0, "wandb": {"mode": "disabled"}}
    (tmp_path / "made").write_text("x")

    def work(run, **_):
        run.begin("none", {}, {})
        return StageResult(1, "steps", "done", {"made": tmp_path / "made"}, {})

    first, second = Pipeline("one", settings), Pipeline("one", settings)
    first.stage("a", work, {}, seed=0, number=1), second.stage("b", work, {}, seed=0, number=2)
    after = Pipeline("one", settings)
    assert all(after.stage(label, work, {}, seed=0, number=number).resumed for label, number in (("a", 1), ("b", 2)))


def test_lost_and_damaged_results_are_made_again(settings):
    settings["rounds"] = 1
    rows = {row.stage: row for row in run_pipeline(settings)}
    Path(rows["V"].artefacts["checkpoint"]).write_bytes(b"damaged")
    Path(rows["video"].artefacts["filmstrip"]).unlink()
    resumed = {row.stage: row.resumed for row in run_pipeline(settings)}
    assert resumed["collect"] and not resumed["V"] and not resumed["video"]


def test_an_interrupted_collection_is_completed(settings, monkeypatch):
    from worldmodels.rollouts.store import RolloutStore

    settings["rounds"] = 1
    append, count = RolloutStore.append, []

    def dies(self, *arguments):
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(1)
        return append(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RolloutStore, "append", dies)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(settings)
    rows = {row.stage: row for row in run_pipeline(settings)}
    manifest = json.loads((Path(rows["collect"].artefacts["store"]) / "manifest.json").read_text())
    seeds = [episode["seed"] for episode in manifest["episodes"]]
    assert len(seeds) == len(set(seeds)) == 4, "two before, two after, none twice"


def test_later_rounds_change_single_values_and_nothing_unknown(settings):
    section = {"model": {"width": 1.0, "latent_dim": 32}, "update_steps": 9}
    changed = merged(section, {"model": {"width": 2.0}})
    assert changed == {"model": {"width": 2.0, "latent_dim": 32}, "update_steps": 9}
    assert section["model"]["width"] == 1.0
    with pytest.raises(UserError, match="depth"):
        merged(section, {"model": {"depth": 3}})
    impatient = {"validation": {"episodes": 0, "patience": 2}}
    strange = {"guard": {"dreams": 0, "repair": ["prayer"]}}
    doubtful = {"controller": {**settings["controller"], "doubt": 1.0}}
    for wrong in (
        {**doubtful, "world": "latent"},
        {**doubtful, "guard": {"dreams": 0, "repair": [], "rivals": 0}},
        {"guard": {"dreams": 0, "repair": ["disagreement"], "rivals": 0}},
        {"again": {"evaluation": {}}},
        {"world": "moon"},
        {"rounds": 0},
        {"device": "tpu"},
        impatient,
        strange,
    ):
        with pytest.raises(UserError):
            run_pipeline({**settings, **wrong})
    assert not Path(settings["data"]).exists(), "refused before anything was made"


def test_keys_follow_content_and_not_place(tmp_path):
    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (tmp_path / name).write_text(text)
    a, b, c = (key_of("stage", {"input": tmp_path / name}, {"x": 1}) for name in "abc")
    assert a == b != c
    assert key_of("stage", {"input": tmp_path / "a"}, {"x": 2}) != a


def test_a_page_about_a_pipeline_or_a_run(settings, tmp_path):
    """It holds every stage, its pictures and its film, and loads nothing from elsewhere."""
    settings |= {"rounds": 1}
    settings["validation"]["episodes"] = 2
    rows = run_pipeline(settings)
    page = report_page(Path(settings["runs"]) / "pipeline" / "small").read_text()
    for row in rows:
        assert f"<h2>{row.stage}</h2>" in page and html.escape(row.metric) in page
    assert page.count("data:video/webm;base64,") == 1 and page.count("data:image/png;base64,") >= 4
    assert "src='http" not in page and 'src="http' not in page and "href=http" not in page
    assert "<h3>Rounds</h3>" in page and "sha256" in page and "torch" in page
    vision = Path(next(row.artefacts["checkpoint"] for row in rows if row.stage == "V")).parent
    alone = report_page(vision).read_text()
    assert "train_vae" in alone and alone.count("data:image/png") == 2, "reconstructions, and the curves"
    with pytest.raises(UserError, match="no run's folder"):
        report_page(tmp_path)


def test_what_is_written_into_a_page_cannot_act(tmp_path):
    lineage = {"stage": "<script>alert(1)</script>", "command": "<b>", "started": "", "seed": 0, "inputs": {}}
    (tmp_path / "lineage.json").write_text(json.dumps({**lineage, "versions": {"<i>": "&"}}))
    (tmp_path / "metrics.csv").write_text("step,train/loss,time/seconds\n1,2,3\n2,nan,4\n3,1,5\n")
    page = report_page(tmp_path).read_text()
    assert "<script" not in page and "<b>" not in page and "<i>" not in page and "&lt;b&gt;" in page
    steps, values = curves_of(tmp_path / "metrics.csv")["train/loss"]
    assert steps.tolist() == [1, 3] and values.tolist() == [2, 1]
