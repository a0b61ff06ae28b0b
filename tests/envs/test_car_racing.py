"""The fast CarRacing beside the stock one: equal physics, nearly equal pixels. In full: make fidelity."""

import gymnasium
import numpy as np
import pytest
from car_racing_fidelity import compare

from worldmodels.envs.car_racing import _camera, _narrowed, scored


def test_physics_rewards_and_ends_are_the_stock_ones_and_pixels_nearly():
    found = compare(tracks=2, steps=120, draw_every=6)
    assert found.identical, "rewards, ends, the car's and the tiles' state, bit for bit"
    assert found.frames >= 40
    assert found.upper <= 2.0, "mean absolute error of rows 0–83"
    assert found.whole <= 3.0, "of the whole frame"
    assert found.worst <= 6.0, "of the worst single frame"
    assert found.small <= 2.0, "of the 64×64 frame beside the stock frame cropped and shrunk"


def test_discrete_actions_and_random_colours():
    stock = gymnasium.make("CarRacing-v3", continuous=False, domain_randomize=True, disable_env_checker=True)
    fast = gymnasium.make("worldmodels/CarRacing-v3", continuous=False, domain_randomize=True, disable_env_checker=True)
    for seed in (3, 4):
        wanted, _ = stock.reset(seed=seed)
        found, _ = fast.reset(seed=seed)
        for action in (3, 3, 1, 2, 0, 3, 4) * 4:
            wanted, reward, *_ = stock.step(action)
            found, ours, *_ = fast.step(action)
            assert ours == reward
        assert np.abs(found[:84].astype(int) - wanted[:84]).mean() < 2


def test_the_clock_counts_simulator_frames():
    env = gymnasium.make("worldmodels/CarRacing-v3", size=64, action_repeat=4, time_limit=30)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (64, 64, 3) and env.observation_space.contains(observation)
    frames, truncated = 0, False
    while not truncated:
        _, _, _, truncated, info = env.step(np.array([0, 0.2, 0], np.float32))
        frames += info["frames"]
    assert frames == 30


def test_scores_know_nothing_of_a_rule_for_training():
    fast = {
        "id": "worldmodels/CarRacing-v3",
        "kwargs": {
            "size": 64,
            "off_road_frames": 7,
            "off_road_share": 0.5,
            "missed_tile_price": 5.0,
            "lap_truncates": True,
            "one_lap": True,
        },
        "crop_rows": None,
    }
    assert scored(fast, stock=False) == {**fast, "kwargs": {"size": 64}}
    assert scored(fast) == {"id": "CarRacing-v3", "kwargs": {}, "crop_rows": 84, "frame_size": 64}
    other = {"id": "LunarLander-v3", "kwargs": {"continuous": True}}
    assert scored(other) == other


def test_the_camera_by_hand():
    """At zoom 2, looking along +y: the hull is at (500, 600), a unit ahead is two pixels up, a unit right two right."""
    camera = _camera(10.0, 20.0, 0.0, 2.0)
    for world, screen in {(10, 20): (500, 600), (10, 21): (500, 598), (11, 20): (502, 600)}.items():
        assert np.allclose(camera @ [*world, 1], screen)
    # turned left by a right angle, the hull looks along −x
    assert np.allclose(_camera(10.0, 20.0, np.pi / 2, 2.0) @ [9, 20, 1], (500, 598))


def test_polygons_are_narrowed_across_the_lane_and_one_without_width_stays():
    """At one texel a unit, 0.58 off each side of a lane from x = 0 to 4; a kerb where the lap closes has no width."""
    lane = np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 3.0), (0.0, 3.0)])
    assert np.allclose(_narrowed(lane, texels=1), [(0.58, 0), (3.42, 0), (3.42, 3), (0.58, 3)])
    kerb = np.array([(7.0, 0.0), (7.0, 0.0), (8.0, 3.0), (8.0, 3.0)])
    assert np.allclose(_narrowed(kerb, texels=1), kerb)


def test_sizes_that_do_not_exist():
    with pytest.raises(ValueError, match="96"):
        gymnasium.make("worldmodels/CarRacing-v3", size=32)
