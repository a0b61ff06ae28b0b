"""The whole way on a small environment, in one process: it runs, resumes, and notices what has changed."""

import json
from pathlib import Path

import pytest
import torch

from worldmodels.errors import UserError
from worldmodels.stages.controller import train_controller
from worldmodels.stages.pipeline import _validated, merged, play_rounds, report, run_pipeline
from worldmodels.stages.resumable import Pipeline, Row
from worldmodels.stages.study import _world_model
from worldmodels.tracking import Run, StageResult


def test_it_runs_resumes_and_notices_changes(settings, capsys):
    rows = run_pipeline(settings)
    stages = [row.stage for row in rows]
    assert stages[:4] == ["collect 1", "V 1", "M 1", "C in the dream 1"]
    assert stages[-5:] == ["evaluate C", "evaluate random", "video", "diagnosis of V", "diagnosis of M"]
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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_runs_on_a_gpu(settings):
    """All stages of the dream that M shares with a rival, compiled; nothing is made twice."""
    settings |= {"device": "cuda", "compile": True}
    settings["controller"]["ensemble"] = True
    rows = run_pipeline(settings)
    assert all(Path(path).exists() for row in rows for path in row.artefacts.values())
    assert all(row.resumed for row in run_pipeline(settings))


def test_rounds_are_looked_at_the_best_is_scored_and_patience_ends(settings, monkeypatch, capsys):
    """C's validation means are made up: 3, 5, 4, 2. The second is scored, the fourth is the last of six."""
    from worldmodels.stages import pipeline as module

    settings["rounds"] = 6
    settings["validation"] |= {"episodes": 2, "patience": 2}
    settings["guard"] |= {"dreams": 8, "repair": ["temperature"]}
    means, temperatures, held_against = iter((3.0, 5.0, 4.0, 2.0)), [], []
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

    def payable(episodes, horizon):
        held_against.append(len(list(episodes)))
        return -100.0  # any dream is too good

    monkeypatch.setattr(module, "payable", payable)
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
    assert held_against == [6, 11, 16, 21], "four episodes and then three a round, and two that validate"
    assert temperatures == pytest.approx([1.15**times for times in range(4)])
    printed = capsys.readouterr().out
    assert printed.count("warning: the dream pays") == 4 and "these were the last" in printed


def test_validations_of_an_earlier_version_can_be_resumed(tmp_path):
    """They have no rewards for each step: 6 in three steps are 2 each."""
    path = tmp_path / "scores.json"
    scores = {"returns": [6.0, 5.0], "steps": [3, 1], "terminated": [True, False]}
    row = Row("validate C 1", 1.0, 4, "frames", "", {"scores": str(path)}, {}, True)
    for kept, wanted in (({}, [[2, 2, 2], [5]]), ({"rewards": [[1, 2, 3], [5]]}, [[1, 2, 3], [5]])):
        path.write_text(json.dumps({**scores, **kept}))
        found = list(_validated(row))
        assert [one.reward.tolist() for one in found] == wanted
        assert [one.terminated for one in found] == [True, False]


def test_of_a_rounds_snapshots_the_best_goes_on(settings, monkeypatch):
    """Validation means are made up: 1, 5, 2 in the first round, 4, 3, 4 in the second. The first round's second
    snapshot continues and is scored; of equals the later one is the round's C."""
    from worldmodels.stages import pipeline as module

    settings["validation"]["episodes"] = 1
    settings["controller"]["snapshots"] = 3
    settings["algo"]["updates"] = 3
    means, played = iter((1.0, 5.0, 2.0, 4.0, 3.0, 4.0)), module.evaluate

    def evaluate(run, **options):
        result = played(run, **options)
        result.scores["mean"] = next(means)
        return result

    monkeypatch.setattr(module, "evaluate", evaluate)
    pipeline = Pipeline("small", settings)
    rounds, best, _ = play_rounds(pipeline)
    assert [one.validation for one in rounds] == [5.0, 4.0]
    by_stage = {row.stage: row for row in pipeline.rows}
    first, second = (by_stage[f"C in the dream {number}"].artefacts for number in (1, 2))
    assert best.controller == Path(first["snapshot_00000002"])
    continued = json.loads((Path(second["checkpoint"]).parent / "lineage.json").read_text())["inputs"]["continued"]
    assert Path(continued["path"]) == best.controller
    looks = [stage for stage in by_stage if stage.startswith("validate C 1")]
    assert looks == [f"validate C 1, snapshot_{number:08d}" for number in (1, 2, 3)]
    frames = [row.scores["frames"] for row in pipeline.rows if row.stage.startswith(("collect", "validate"))]
    assert len(frames) == 8 and rounds[-1].frames == sum(frames), "each look costs frames"

    # the looks are finished, and the round's C is the one that dreams
    settings["guard"]["dreams"] = 4
    looked = Pipeline("small", settings)
    play_rounds(looked)
    asked = next(row for row in looked.rows if row.stage == "dream of C 2")
    read = json.loads((Path(asked.folder) / "lineage.json").read_text())["inputs"]["controller"]["path"]
    assert Path(read) == Path(second["snapshot_00000003"])


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
    one = {"rivals": [rivals[0]]}
    for wrong in (
        {"doubt": 1.0},
        one,
        {"doubt": -1.0, **one},
        {"ensemble": True},
        {"doubt": 1.0, "ensemble": True, **one},
    ):
        learning = {**settings["controller"], "doubt": 0.0, **wrong}
        models = {"vision": rows["V 2"].artefacts["checkpoint"], "memory": rows["M 2"].artefacts["checkpoint"]}
        rest = {"algo": settings["algo"], "policy": settings["policy"], "num_envs": 2, "asynchronous": False}
        with pytest.raises(UserError, match="rivals of M"):
            train_controller(Run("c", settings), **models, world="dream", **learning, **rest, seed=0, device="cpu")


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
    assert merged({"env_kwargs": {"a": 1}}, {"env_kwargs": {"b": 2}}) == {"env_kwargs": {"a": 1, "b": 2}}
    impatient = {"validation": {"episodes": 0, "patience": 2}}
    hasty = {"validation": {"episodes": 2, "patience": 0}}
    strange = {"guard": {"dreams": 0, "repair": ["prayer"]}}
    doubtful = {"controller": {**settings["controller"], "doubt": 1.0}}
    several = {"controller": {**settings["controller"], "ensemble": True}}
    for wrong in (
        {**doubtful, "world": "latent"},
        {**several, "world": "latent"},
        {**several, "guard": {"dreams": 0, "repair": ["disagreement"], "rivals": 1}},
        {"controller": {**settings["controller"], "ensemble": True, "doubt": 1.0}},
        {"again": {"controller": {"ensemble": True}}, "guard": {"dreams": 0, "repair": [], "rivals": 0}},
        {**doubtful, "guard": {"dreams": 0, "repair": [], "rivals": 0}},
        {"guard": {"dreams": 0, "repair": ["disagreement"], "rivals": 0}},
        {"again": {"evaluation": {}}},
        {"again": {"algo": {"speed": 1}}},
        {"last": {"evaluation": {}}},
        {"last": {"algo": {"speed": 1}}},
        {"world": "moon"},
        {"rounds": 0},
        {"device": "tpu"},
        impatient,
        hasty,
        strange,
    ):
        with pytest.raises(UserError):
            run_pipeline({**settings, **wrong})
    for kwargs, words in (({"off_road_stat": 0.1}, "off_road_stat"), (5, "env_kwargs must be {NAME: VALUE}")):
        for part in ("collect", "controller"):
            with pytest.raises(UserError, match=words):
                run_pipeline({**settings, "again": {part: {"env_kwargs": kwargs}}})
    assert not Path(settings["data"]).exists(), "refused before anything was made"


def test_a_seed_of_a_study(settings):
    """All real frames count; the curve is that of the training in the latent world, of validation scores in a dream."""
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
    assert looked["curve"] == found["curve"]
    assert looked["env_steps"] > found["env_steps"], "validation tracks cost frames as well"
    dreamt = _world_model({**settings, "world": "dream"}, seed=3)
    assert dreamt["curve"] == [(dreamt["env_steps"], pytest.approx(dreamt["rounds"][0]["validation"], abs=1e-3))]


def test_the_last_of_several_rounds_has_settings_of_its_own(settings, monkeypatch):
    """On top of those of the later rounds; where there is one round alone, they mean nothing."""
    from worldmodels.stages import pipeline as module

    plans, learned = [], module.train_controller

    def train_controller(run, **options):
        plans.append((options["temperature"], options["algo"]["entropy_weight"]))
        return learned(run, **options)

    monkeypatch.setattr(module, "train_controller", train_controller)
    settings["controller"]["temperature"], settings["algo"]["entropy_weight"] = 1.0, 0.03
    settings["again"] |= {"controller": {"temperature": 1.2}, "algo": {"entropy_weight": 0.01}}
    settings["last"] = {"controller": {"temperature": 0.7}}
    play_rounds(Pipeline("three", {**settings, "rounds": 3}))
    assert plans == [(1.0, 0.03), (1.2, 0.01), (0.7, 0.01)]
    play_rounds(Pipeline("one", {**settings, "rounds": 1}))
    assert plans[3:] == [(1.0, 0.03)]


def test_what_learns_is_compiled_where_the_settings_say_so(settings):
    """And made again for that: its numbers are others."""
    seen = []

    def look(run, **_):
        run.begin("nowhere", {}, {})
        seen.append(run.compiles)
        return StageResult(1, "looks", "", {}, {})

    def train_vae(run, **options):
        return look(run, **options)

    for compiles in (False, True, True):
        pipeline = Pipeline("small", settings | {"compile": compiles})
        for work in (train_vae, look):
            pipeline.stage(work.__name__, work, {}, seed=0)
    assert seen == [False, False, True]
