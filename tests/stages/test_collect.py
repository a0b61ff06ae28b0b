"""What may differ while episodes are collected, and what is said to a controller that was made for other actions."""

import numpy as np
import pytest
from saving import save_models

from worldmodels.errors import UserError
from worldmodels.rollouts.store import RolloutStore
from worldmodels.stages.collect import collect
from worldmodels.stages.settings import describe_environment, with_kwargs
from worldmodels.tracking import Run


def test_the_store_is_of_the_environment_without_the_rules_of_its_collection(tmp_path, blob_settings):
    car_racing = {"id": "worldmodels/CarRacing-v3", "kwargs": {"size": 64}, "action_repeat": 4}
    stock, rules = {**blob_settings, **car_racing}, {"off_road_start": 1.0}
    settings = {"runs": str(tmp_path / "runs"), "seed": 0, "wandb": {"mode": "disabled"}}

    def first_episode(name, env, more):
        collect(Run("collect", settings), tmp_path / name, env, 2, "held", seed=0, max_steps=2, env_kwargs=more)
        store = RolloutStore.open(tmp_path / name)
        assert store.environment == describe_environment(env)
        return store.read(store.entries[0]).observation

    lost = first_episode("lost", stock, rules)
    assert np.array_equal(lost, first_episode("always_lost", with_kwargs(stock, rules), None))
    assert not np.array_equal(lost, first_episode("stock", stock, None))


@pytest.fixture
def refusal(tmp_path, blob_settings):
    """What `collect` says with env settings `here` to a C that was made with those `there`."""

    def told(there, here):
        checkpoint = save_models(tmp_path, {**blob_settings, **there})
        with pytest.raises(UserError) as refused:
            env = {**blob_settings, **here}
            collect(None, tmp_path / "store", env, 1, "controller", seed=0, checkpoint=checkpoint)
        assert not (tmp_path / "store").exists()
        return str(refused.value).removeprefix(f"{checkpoint} ")

    return told


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        (
            {"action_high": [1.0, 1.0, 0.2]},
            {"action_high": [1.0, 0.5, 0.1]},
            "has other actions in environments:Blob-v0: action_high [1.0, 0.5, 0.1] here, [1.0, 1.0, 0.2] there; "
            "set env.action_high=[1.0,1.0,0.2]",
        ),
        (
            {},
            {"action_low": [-0.5, -1.0, 0.0], "action_high": [1.0, 1.0, 0.3]},
            "has other actions in environments:Blob-v0: action_low [-0.5, -1.0, 0.0] here, [-1.0, -1.0, 0.0] there, "
            "action_high [1.0, 1.0, 0.3] here, [1.0, 1.0, 1.0] there; set env.action_low=null env.action_high=null",
        ),
        (
            {"id": "environments:Pushed-v0", "actions": [0, 2, 3]},
            {"id": "environments:Pushed-v0"},
            "has other actions in environments:Pushed-v0: actions null here, [0, 2, 3] there; set env.actions=[0,2,3]",
        ),
        (
            {"id": "environments:Pushed-v0"},
            {},
            "acts in environments:Pushed-v0, not in environments:Blob-v0; set env to match",
        ),
        (
            {"id": "CarRacing-v3", "kwargs": {"continuous": False}, "crop_rows": 84, "frame_size": 64},
            {"id": "CarRacing-v3", "crop_rows": 84, "frame_size": 64},
            "acts in CarRacing-v3 with {'continuous': False}, not with {}; set env.kwargs to match",
        ),
        (
            {"id": "worldmodels/CarRacing-v3", "kwargs": {"size": 64}, "action_high": [1.0, 0.5, 0.1]},
            {"id": "CarRacing-v3", "crop_rows": 84, "frame_size": 64},
            "has other actions in worldmodels/CarRacing-v3: action_high [1.0, 1.0, 1.0] here, [1.0, 0.5, 0.1] there; "
            "set env.action_high=[1.0,0.5,0.1]",
        ),
    ],
)
def test_other_actions_are_named(refusal, there, here, said):
    assert refusal(there, here) == said
