"""What is finished is known by its content."""

import gc
import weakref

from worldmodels.stages.resumable import Pipeline, key_of
from worldmodels.tracking import StageResult


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


def test_what_a_stage_leaves_behind_is_freed(tmp_path):
    """Objects that refer to each other, as a trainer and its data do, are gone before the next stage."""

    class Data:
        pass

    left = []

    def work(run, **_):
        run.begin("none", {}, {})
        data = Data()
        data.trainer = [data]
        left.append(weakref.ref(data))
        return StageResult(1, "steps", "done", {}, {})

    gc.disable()  # as good as it is behind PyTorch's million long-lived objects
    try:
        pipeline = Pipeline("one", {"runs": str(tmp_path), "seed": 0, "wandb": {"mode": "disabled"}})
        pipeline.stage("a", work, {}, seed=0)
    finally:
        gc.enable()
    assert left[0]() is None


def test_keys_follow_content_and_not_place(tmp_path):
    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (tmp_path / name).write_text(text)
    a, b, c = (key_of("stage", {"input": tmp_path / name}, {"x": 1}) for name in "abc")
    assert a == b != c
    assert key_of("stage", {"input": tmp_path / "a"}, {"x": 2}) != a


def test_a_setting_that_came_later_makes_a_stage_anew_only_where_it_changes_something():
    before = {"window": 48, "model": {"mixtures": 5}}
    key = key_of("train_mdnrnn", {}, before)
    same = {
        "window": 48,
        "model": {"mixtures": 5, "anneal": False, "latent_noise": 1.0, "reward_smoothing": 0},
        "overhang": False,
        "through": False,
    }
    assert key_of("train_mdnrnn", {}, same) == key
    models = ({"anneal": True}, {"latent_noise": 0.3}, {"reward_smoothing": 2})
    for other in ({"overhang": True}, {"through": True}, *({"model": {**same["model"], **model}} for model in models)):
        assert key_of("train_mdnrnn", {}, {**same, **other}) != key
    assert key_of("train_vae", {}, {"model": {"anneal": False}}) == key_of("train_vae", {}, {"model": {}})
    assert key_of("collect", {}, {"noise": 0.1, "env_kwargs": None}) == key_of("collect", {}, {"noise": 0.1})
    driving = {"horizon": 40, "env_kwargs": {"off_road_frames": 6}}
    longer = {**driving, "snapshots_after": 0.0, "env_kwargs": {"off_road_frames": 6, "off_road_home": None}}
    key = key_of("train_controller", {}, driving)
    assert key_of("train_controller", {}, longer) == key
    assert key_of("train_controller", {}, {**driving, "snapshots_after": 0.8}) != key
    assert key_of("another stage", {}, {**before, "overhang": False}) != key_of("another stage", {}, before)
