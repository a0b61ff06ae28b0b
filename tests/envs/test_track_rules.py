"""Rules for training on CarRacing, on tracks of our own making and on real ones."""

import math
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from worldmodels.envs.track_rules import LapTruncates, MissedTilePrice, OffRoadEnd, OneLap, _place


def rule_of(env, kind):
    while not isinstance(env, kind):
        env = env.env
    return env


def test_who_leaves_the_road_is_out():
    """Full gas straight on leaves the track at its first bend; without the rule the same drive goes on."""
    ruled = gymnasium.make("worldmodels/CarRacing-v3", size=64, off_road_frames=7)
    plain = gymnasium.make("worldmodels/CarRacing-v3", size=64)
    for seed in (0, 1):
        ruled.reset(seed=seed), plain.reset(seed=seed)
        away = frames = 0
        ended = False
        while not ended:
            _, reward, ended, truncated, _ = ruled.step(np.array([0, 1, 0], np.float32))
            _, wanted, terminated, *_ = plain.step(np.array([0, 1, 0], np.float32))
            assert reward == wanted and not terminated and not truncated
            frames += 1
            away = 0 if any(wheel.tiles for wheel in plain.unwrapped.car.wheels) else away + 1
            assert ended == (away == 7)
        assert frames > 20
    for wrong in ({"off_road_frames": 0}, {"off_road_frames": 1, "off_road_share": 1.5}):
        with pytest.raises(ValueError, match="off_road"):
            gymnasium.make("worldmodels/CarRacing-v3", **wrong)


def test_the_rule_applies_to_a_share_of_the_seeds():
    env = gymnasium.make("worldmodels/CarRacing-v3", size=64, off_road_frames=1, off_road_share=0.25)
    rule = rule_of(env, OffRoadEnd)

    def applies(seed):
        env.reset(seed=seed)
        return rule.applies

    drawn = [applies(seed) for seed in range(40)]
    assert 4 <= sum(drawn) <= 16 and drawn[:5] == [applies(seed) for seed in range(5)]


def lost(**rules):
    return gymnasium.make("worldmodels/CarRacing-v3", size=64, off_road_start=1.0, **rules)


def test_episodes_begin_on_the_meadow():
    """On the seed's own track, beside the tile that is named, whole, and with as much speed as the rule says."""
    env, plain = lost(), gymnasium.make("worldmodels/CarRacing-v3", size=64)
    places = []
    for seed in range(8):
        observation, info = env.reset(seed=seed)
        plain.reset(seed=seed)
        track, car = env.unwrapped.track, env.unwrapped.car
        assert track == plain.unwrapped.track and env.observation_space.contains(observation)
        _, beta, x, y = track[info["tile"]]
        away = car.hull.position[0] - x, car.hull.position[1] - y
        assert 7 < math.hypot(*away) < 52, "8 to 50, and a frame's way of up to 1.2"
        assert abs(-math.sin(beta) * away[0] + math.cos(beta) * away[1]) < 1.3, "across the road, not along it"
        assert math.hypot(*car.hull.linearVelocity) < 60.5
        for wheel, stock in zip(car.wheels, plain.unwrapped.car.wheels, strict=True):
            own = plain.unwrapped.car.hull.GetLocalPoint(stock.position)
            assert tuple(car.hull.GetLocalPoint(wheel.position)) == pytest.approx(tuple(own), abs=0.05)
            forward = wheel.GetWorldVector((0, 1))
            speed = forward[0] * wheel.linearVelocity[0] + forward[1] * wheel.linearVelocity[1]
            assert wheel.omega * wheel.wheel_rad == pytest.approx(speed, abs=1.0), "rolling, not sliding"
        places.append((tuple(car.hull.position), car.hull.angle))
    assert len(set(places)) == 8
    env.reset(seed=7)
    assert (tuple(env.unwrapped.car.hull.position), env.unwrapped.car.hull.angle) == places[-1]


def test_a_share_of_the_episodes_begins_there():
    env = gymnasium.make("worldmodels/CarRacing-v3", size=64, off_road_start=0.25)
    drawn = ["tile" in env.reset(seed=seed)[1] for seed in range(40)]
    assert 4 <= sum(drawn) <= 16
    with pytest.raises(ValueError, match="off_road_start must be from 0 to 1, not 2"):
        gymnasium.make("worldmodels/CarRacing-v3", off_road_start=2.0)


def brake(env, seed, arrive_after=None):
    """The full brake from the start on, put onto the first tile before frame `arrive_after`: frames until an end."""
    env.reset(seed=seed)
    car, first = env.unwrapped.car, env.unwrapped.track[0]
    for frame in range(1, 1001):
        if frame == arrive_after:
            _place(car, first[2:], first[1], 0.0)
        _, _, terminated, truncated, _ = env.step(np.array([0, 0, 1], np.float32))
        if terminated or truncated:
            break
    return frame, terminated


def test_who_does_not_find_the_road_is_out_and_who_does_drives_on():
    env = lost(off_road_frames=6)
    stays = [seed for seed in range(8) if brake(env, seed) == (200, True)]
    assert len(stays) >= 4, "not after 6 frames: they have not been on the road, but for those that slide over it"
    assert brake(env, stays[0], arrive_after=150) == (1000, False)
    short = lost(off_road_frames=6, off_road_home=40)
    assert brake(short, stays[0], arrive_after=150) == (190, False), "found in frame 150, 40 more"
    assert brake(short, stays[1]) == (200, True) and brake(short, stays[0], arrive_after=150) == (190, False)
    stock = gymnasium.make("worldmodels/CarRacing-v3", size=64, off_road_start=1e-9, off_road_home=40)
    assert brake(stock, 0) == (1000, False), "who has never been lost has nowhere to come home from"
    with pytest.raises(ValueError, match="off_road_home must be at least 1, not 0"):
        lost(off_road_home=0)


class _Track(gymnasium.Env):
    """A closed road of 40 tiles; an action lists the tiles that the wheels stand on."""

    def reset(self, **options):
        self.road = [SimpleNamespace(idx=number, road_visited=False) for number in range(40)]
        self.car = SimpleNamespace(wheels=[])
        return None, options.get("options", {})

    def step(self, action):
        self.car.wheels = [SimpleNamespace(tiles=[self.road[number]]) for number in action]
        for number in action:
            self.road[number].road_visited = True
        return None, 1.0, False, False, {}


def test_missed_tiles_are_charged_once_passed_by():
    track = MissedTilePrice(_Track(), price=10.0)
    track.reset()
    drives = [
        ([0, 1], 1),
        ([2, 3], 1),
        ([6, 5], 1),  # past tile 4
        ([12], 1),  # which is 8 tiles behind: a rear wheel might touch it yet
        ([], 1),
        ([13], -9),  # now it cannot
        ([4], 1),  # coming back for it pays nothing back
    ]
    for action, reward in drives:
        assert track.step(action)[1] == reward, action
    assert track.step([20])[1] == 1 - 10 * 5, "tiles 7 to 11; 14 to 19 are not passed by yet"
    assert track.step([31])[1] == 1 - 10 * 8, "14 to 19, 21 and 22"
    assert track.step([2])[1] == 1 - 10 * 10, "over the line, where numbers begin anew: 23 to 30, 32 and 33"
    track.reset()
    assert track.step([0])[1] == 1
    assert track.step([30])[1] == 1, "behind the start, not far ahead of it"
    track.reset(options={"tile": 20})
    assert track.step([22])[1] == 1, "what lies behind a start on the way is not missed"
    assert track.step([31])[1] == 1 - 10 * 2, "20 and 21"


@pytest.mark.parametrize("begun", [0, 100])
def test_who_has_come_round_is_cut_off_whatever_was_missed(begun):
    """On a lap that begins at the tile named; how many tiles were touched is set by hand."""
    env = gymnasium.make("worldmodels/CarRacing-v3", size=64, one_lap=True)
    for tile, share, ends in (
        (0, 0.7, (False, False)),
        (0, 0.9, (False, True)),
        (3, 0.9, (False, True)),
        (50, 0.9, (False, False)),
        (-20, 0.9, (False, False)),
        (0, 1.0, (True, False)),
    ):
        env.reset(seed=0)
        racing, rule = env.unwrapped, rule_of(env, OneLap)
        assert rule.begun == 0
        rule.begun = begun
        place = racing.track[(begun + tile) % len(racing.road)]
        _place(racing.car, place[2:], place[1], 0.0)
        for one in racing.road:  # none is touched anew
            one.road_visited = True
        racing.tile_visited_count = int(share * len(racing.road))
        assert env.step(np.zeros(3, np.float32))[2:4] == ends, (tile, share)


def test_a_lap_from_the_meadow_begins_at_its_tile():
    env = lost(one_lap=True)
    _, info = env.reset(seed=3)
    assert rule_of(env, OneLap).begun == info["tile"] > 0


class _Ending(gymnasium.Env):
    """Ends as the action says: a finished lap (1), off the field (2), not at all (0)."""

    def step(self, action):
        return None, 1.0, action > 0, False, {"lap_finished": action == 1} if action else {}


def test_a_finished_lap_cuts_the_episode_off():
    ends = {action: LapTruncates(_Ending()).step(action)[2:4] for action in (0, 1, 2)}
    assert ends == {0: (False, False), 1: (False, True), 2: (True, False)}


def test_the_lap_of_a_real_track_cuts_off():
    """The last tile is touched where all others were: stock rules end the episode there."""
    ends = []
    for rule in ({}, {"lap_truncates": True}):
        env = gymnasium.make("worldmodels/CarRacing-v3", size=64, **rule)
        env.reset(seed=0)
        env.unwrapped.tile_visited_count = len(env.unwrapped.road)
        ends.append(env.step(np.zeros(3, np.float32))[2:4])
    assert ends == [(True, False), (False, True)]


def test_a_price_below_nothing_is_refused():
    with pytest.raises(ValueError, match="missed_tile_price must be at least 0, not -1"):
        gymnasium.make("worldmodels/CarRacing-v3", missed_tile_price=-1)


def test_a_road_without_missed_tiles_pays_as_ever():
    """Straight on along the first tiles nothing is missed: rewards are the stock ones."""
    rules = ({"missed_tile_price": 5.0}, {})
    ruled, plain = (gymnasium.make("worldmodels/CarRacing-v3", size=64, **rule) for rule in rules)
    for env in (ruled, plain):
        env.reset(seed=3)
    for _ in range(80):
        action = np.array([0, 0.3, 0], np.float32)
        assert ruled.step(action)[1] == plain.step(action)[1]
    assert rule_of(ruled, MissedTilePrice).passed > 3
