"""Variants of V, and of M, on the same episodes."""

import json
from pathlib import Path

import pytest

from worldmodels.errors import UserError
from worldmodels.stages.variants import compare_memories, compare_visions


def settings_of(small, tmp_path, script, variants, *overrides):
    return {**small(script, f"results={tmp_path / script}", *overrides), "variants": variants}


def finished_of(settings):
    """What the pipeline knows to be finished, and its stages."""
    path = Path(settings["runs"]) / "pipeline" / "small" / "finished.json"
    return path.read_bytes(), [one["row"]["stage"] for one in json.loads(path.read_text()).values()]


def test_several_visions(small, tmp_path):
    """Collected once; run again, nothing is made twice; a variant more leaves the others as they are."""
    variants = {"lean": {}, "paper": {"model": {"network": "paper", "learning_rate": 1e-3, "kl_tolerance": 0.0}}}
    settings = settings_of(small, tmp_path, "compare_visions", variants, "frames=16")
    found = json.loads(compare_visions(settings).read_text())
    assert list(found["variants"]) == ["lean", "paper"] and found["env_steps"] > 0
    for name, one in found["variants"].items():
        kl = one["kl_per_dimension"]
        assert one["changes"] == variants[name] and one["frames"] == 16 and 0 <= one["active_units"] <= 4
        assert len(kl) == 4 and kl == sorted(kl, reverse=True) and sum(kl) == pytest.approx(one["kl"], rel=1e-4)
        assert one["seconds"] > 0 and one["samples_per_second"] > 0 and one["versions"]["torch"]
    lean, paper = found["variants"].values()
    assert paper["parameters"] != lean["parameters"] and (lean["kl_tolerance"], paper["kl_tolerance"]) == (2.0, 0.0)
    before, stages = finished_of(settings)
    assert stages == ["collect", "V, lean", "diagnosis of V, lean", "V, paper", "diagnosis of V, paper"]
    assert json.loads(compare_visions(settings).read_text()) == found and finished_of(settings)[0] == before

    more = {"heavy": {"model": {"kl_weight": 4.0}}}
    again = json.loads(compare_visions({**settings, "variants": more}).read_text())["variants"]
    assert list(again) == ["heavy", "lean", "paper"] and {name: again[name] for name in variants} == found["variants"]
    for wrong, words in (
        ({"variants": {}}, "nothing to compare"),
        ({"variants": {"deep": {"model": {"depth": 3}}}}, r"variants\.deep\.model names 'depth'"),
        ({"variants": {"deep": 3}}, r"variants\.deep must be {KEY: VALUE} with keys of model, .*, not 3"),
        ({"variants": {"lean": {"model": {"kl_weight": 2.0}}}}, r"variants\.lean\.model is absent there, .* here"),
        ({"frames": 17}, "frames is 16 there, 17 here.*results=elsewhere"),
    ):
        with pytest.raises(UserError, match=words):
            compare_visions({**settings, **wrong})


def test_several_memories_go_on_where_they_stopped(small, tmp_path, monkeypatch):
    """Killed at the second M, it keeps the first. V is the one that compare_visions has made under the same name."""
    from worldmodels.stages import variants as module

    compare_visions(settings_of(small, tmp_path, "compare_visions", {"as it is": {}}, "frames=16"))
    variants = {"8 units": {}, "one Gaussian": {"model": {"mixtures": 1}}}
    options = ("windows=6", "context=3", "horizon=12")
    settings = settings_of(small, tmp_path, "compare_memories", variants, *options)
    trained = module.train_memory

    def dies(pipeline, label, *arguments):
        if "one Gaussian" in label:
            raise KeyboardInterrupt
        return trained(pipeline, label, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_memory", dies)
        with pytest.raises(KeyboardInterrupt):
            compare_memories(settings)
    path = Path(settings["results"]) / "small.json"
    first = json.loads(path.read_text())["variants"]
    assert list(first) == ["8 units"]
    found = json.loads(compare_memories(settings).read_text())
    assert list(found["variants"]) == list(variants) and found["variants"]["8 units"] == first["8 units"]
    stages = finished_of(settings)[1]
    assert stages[3:] == [f"{work}, {name}" for name in variants for work in ("M", "diagnosis of M")]
    assert stages[:3] == ["collect", "V, as it is", "diagnosis of V, as it is"]

    several, single = found["variants"].values()
    assert single["parameters"] < several["parameters"]
    assert single["nll"]["mixture"] == pytest.approx(single["nll"]["one_gaussian"], abs=1e-4)
    assert single["nll"]["as_before"] == pytest.approx(several["nll"]["as_before"]), "of the same windows"
    for one in (several, single):
        assert one["steps"] == [1, 10] and len(one["calibration"]["coverage"]) == 2
        assert sum(one["calibration"]["histogram"]) == pytest.approx(10) and one["seconds"] > 0
        assert {"reward_error", "ended_error", "pixel_error"} < one["left_alone"].keys()
        assert all(len(values) == 2 for values in one["left_alone"].values())
    diagnosis = next(Path(settings["runs"]).glob("diagnose_memory/*/*/diagnosis.json"))
    alone = json.loads(diagnosis.read_text())["left_alone"]["pixel_error"]
    assert [alone[0], alone[9]] in [one["left_alone"]["pixel_error"] for one in (several, single)]
    with pytest.raises(UserError, match="horizon is 12 there, 13 here"):
        compare_memories({**settings, "horizon": 13})
    with pytest.raises(UserError, match=r"variants\.x\.model names 'units'"):
        compare_memories({**settings, "variants": {"x": {"model": {"units": 3}}}})
