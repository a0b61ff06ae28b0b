"""What a study makes of the file that is there already; nothing is trained here."""

import copy
import json
from concurrent.futures import Future

import pytest

from worldmodels.errors import UserError
from worldmodels.stages import study
from worldmodels.stages.study import differing, run_study

SEED = {"returns": [1.0, 3.0], "env_steps": 10, "seconds": 1.0, "curve": []}
PIPELINE = dict.fromkeys(set(study.PIPELINE_PARTS) - {"rounds"})


@pytest.fixture
def settings(tmp_path):
    return {
        "name": "one",
        "task": "Blob",
        "title": "A2C",
        "target": None,
        "every_seed": True,
        "seeds": [0, 1],
        "workers": 1,
        "rounds": 0,
        "results": str(tmp_path),
        "env": {"id": "Blob-v0", "kwargs": {"size": 64}, "stack": 1},
        "algo": {"updates": 12, "gae_lambda": 0.95},
        "policy": {"hidden": [8]},
        "evaluation": {"episodes": 2},
        **PIPELINE,
    }


@pytest.fixture
def trained(monkeypatch):
    """The seeds that would be trained."""
    found = []

    class Pool:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, work, settings, seed):
            found.append(seed)
            done = Future()
            done.set_result(SEED)
            return done

    monkeypatch.setattr(study, "ProcessPoolExecutor", Pool)
    return found


def changed(settings, **values):
    """A copy with other values, each by its path: algo__updates=13; ... takes one out."""
    other = copy.deepcopy(settings)
    for path, value in values.items():
        *rooms, key = path.split("__")
        place = other
        for room in rooms:
            place = place[room]
        if value is ...:
            del place[key]
        else:
            place[key] = value
    return other


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"algo__updates": 13}, "algo.updates is 12 there, 13 here"),
        ({"env__kwargs__size": 96}, "env.kwargs.size is 64 there, 96 here"),
        ({"env__kwargs": None}, "env.kwargs is {'size': 64} there, None here"),
        ({"env__kwargs__size": ...}, "env.kwargs.size is 64 there, absent here"),
        ({"policy__hidden": [8, 8]}, "policy.hidden is [8] there, [8, 8] here"),
        ({"rounds": 2}, "rounds is 0 there, 2 here"),
        ({"env__stack": 4, "algo__updates": 13, "algo__gae_lambda": 1.0}, "env.stack is 1 there, 4 here and 2 more"),
    ],
)
def test_other_settings_leave_the_file_alone(settings, trained, change, differs):
    path = run_study(settings)
    assert trained == [0, 1]
    before = path.read_bytes()
    with pytest.raises(UserError) as refused:
        run_study(changed(settings, seeds=[0, 1, 2], **change))
    told = str(refused.value)
    assert str(path) in told and f"({differs})" in told and "results=elsewhere" in told and "delete" in told
    assert "\n" not in told and path.read_bytes() == before and trained == [0, 1]


def test_a_world_model_is_no_study_without_a_model(settings, trained):
    run_study(changed(settings, rounds=2))
    with pytest.raises(UserError, match="rounds is 2 there, 0 here"):
        run_study(settings)


def test_keys_that_came_later_count_where_they_change_something(settings, trained):
    path = run_study(changed(settings, seeds=[0]))
    with pytest.raises(UserError, match=r"algo\.points is False there, True here"):
        run_study(changed(settings, algo__points=True))
    run_study(changed(settings, algo__points=False))
    now = json.loads(path.read_text())
    assert trained == [0, 1] and list(now["seeds"]) == ["0", "1"]
    assert now["settings"]["algo"]["points"] is False, "recorded from here on"


def test_nothing_is_written_where_no_seed_is_missing(settings, trained):
    path = run_study(settings)
    before = path.read_bytes()
    run_study(changed(settings, env__blackout=None))
    assert path.read_bytes() == before and trained == [0, 1]


def test_what_another_run_has_scored_meanwhile_stays(settings, trained, monkeypatch):
    """Two terminals, one seed in each: the second ends while the first still trains."""

    def and_meanwhile(running):
        monkeypatch.setattr(study, "as_completed", iter)
        run_study(changed(settings, seeds=[2]))
        return iter(running)

    monkeypatch.setattr(study, "as_completed", and_meanwhile)
    path = run_study(settings)
    assert list(json.loads(path.read_text())["seeds"]) == ["0", "1", "2"] and trained == [0, 1, 2]


def test_what_differs_by_hand():
    assert differing({}, {"a": 1}) == ["a is absent there, 1 here"]
    assert differing({"env": {"kwargs": {}}}, {"env": {"kwargs": {"off_road_frames": 6}, "blackout": None}}) == [
        "env.kwargs.off_road_frames is absent there, 6 here"
    ]
    assert differing({"guard": {}}, {"guard": {"rivals": 2}}) == []
    assert differing({"a": {"b": 1}, "c": 2}, {"a": 3, "c": 4}) == [
        "a is {'b': 1} there, 3 here",
        "c is 2 there, 4 here",
    ]


def test_again_decides_nothing_where_nothing_is_done_again():
    assert not {"again", "last"} & set(study.parts_of({"rounds": 1}))
    assert {"again", "last"} <= set(study.parts_of({"rounds": 2}))
    assert study.parts_of({"rounds": 0}) == study.PARTS
