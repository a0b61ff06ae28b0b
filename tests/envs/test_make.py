import cv2
import gymnasium
import numpy as np
import pytest

from worldmodels.envs.make import EnvSettings, make_env, make_envs, reset_some
from worldmodels.errors import UserError

CARRACING = EnvSettings("CarRacing-v3", {}, action_repeat=4, crop_rows=84, frame_size=64)


def test_action_repeat_changes_nothing_but_what_is_drawn():
    """Against stock CarRacing stepped by hand: the same frames, the same sums of rewards, the same end."""
    stock = gymnasium.make("CarRacing-v3", disable_env_checker=True, max_episode_steps=30)
    ours = make_env(EnvSettings("CarRacing-v3", {"max_episode_steps": 30}, action_repeat=4))
    random = np.random.default_rng(0)
    assert np.array_equal(stock.reset(seed=5)[0], ours.reset(seed=5)[0])
    for _ in range(8):
        action = random.uniform([-1, 0, 0], [1, 1, 0.2]).astype(np.float32)
        frame, reward, terminated, truncated, info = ours.step(action)
        total = 0.0
        for _ in range(4):
            wanted, one, wanted_terminated, wanted_truncated, _ = stock.step(action)
            total += one
            if wanted_terminated or wanted_truncated:
                break
        assert np.array_equal(frame, wanted)
        assert reward == total
        assert (terminated, truncated) == (wanted_terminated, wanted_truncated)
    assert truncated and info["frames"] == 2, "30 frames are seven fours and two"


def test_frames_are_the_upper_rows_at_64():
    env = make_env(CARRACING)
    assert env.observation_space.shape == (64, 64, 3)
    frame, _ = env.reset(seed=1)
    assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
    stock = gymnasium.make("CarRacing-v3", disable_env_checker=True).reset(seed=1)[0]
    assert np.abs(frame.mean((0, 1)) - stock[:84].mean((0, 1))).max() < 0.5, "area averages keep the mean of rows 0–83"
    assert np.abs(frame.mean((0, 1)) - stock.mean((0, 1))).max() > 5, "which the black bar below would lower"


def test_reset_some_leaves_the_others_alone():
    envs = make_envs(EnvSettings("environments:Counting-v0", {}), 3, asynchronous=False)
    reset_some(envs, {0: 10, 1: 11, 2: 12})
    envs.step(np.array([1, 2, 3]))
    observation = reset_some(envs, {1: 99})
    assert observation[:, 4, 0, 0].tolist() == [1, 0, 1], "t of each environment"
    assert observation[:, 3, 0, 0].tolist() == [10, 99, 12], "seed of each environment"
    envs.close()


def test_narrowed_actions_are_announced_and_checked():
    env = make_env(EnvSettings("CarRacing-v3", {}, action_high=[0.5, 0.5, 0.1]))
    assert env.action_space.low.tolist() == [-1, 0, 0]
    assert np.allclose(env.action_space.high, [0.5, 0.5, 0.1])
    for high in ([0.5, 0.5], [0.5, 2.0, 0.1]):
        with pytest.raises(UserError, match="action_high"):
            make_env(EnvSettings("CarRacing-v3", {}, action_high=high))
    with pytest.raises(UserError, match="continuous"):
        make_env(EnvSettings("CartPole-v1", {}, action_high=[1.0]))


def test_an_unknown_environment_is_named():
    with pytest.raises(UserError, match="NoSuch-v9"):
        make_envs(EnvSettings("NoSuch-v9", {}), 2)


def test_frames_are_asked_of_an_environment_without_any():
    with pytest.raises(UserError, match=r"env\.frame_size=null"):
        make_env(EnvSettings("CartPole-v1", {}, frame_size=64))


def test_stacked_frames_are_the_last_ones_oldest_first():
    env = make_env(EnvSettings("environments:Counting-v0", {}, stack=3))
    assert env.observation_space.shape == (8, 1, 3)
    first, _ = env.reset(seed=9)
    t = [first[4, 0].tolist()]
    shown = [first]
    for _ in range(4):
        frame, *_ = env.step(1)
        t.append(frame[4, 0].tolist())
        shown.append(frame)
    assert t == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert [frame[4, 0].tolist() for frame in shown] == t, "frames handed out before stay as they were"
    assert env.reset(seed=9)[0][4, 0].tolist() == [0, 0, 0]
    with pytest.raises(UserError, match=r"env\.stack=1"):
        make_env(EnvSettings("CartPole-v1", {}, stack=2))


def test_the_rows_that_are_kept():
    frames = make_env(EnvSettings("CarRacing-v3", {}))
    whole, _ = frames.reset(seed=3)
    some = make_env(EnvSettings("CarRacing-v3", {}, crop_rows=[20, 84], frame_size=64))
    kept, _ = some.reset(seed=3)
    assert np.array_equal(kept, cv2.resize(whole[20:84], (64, 64), interpolation=cv2.INTER_AREA))
    with pytest.raises(UserError, match="crop_rows"):
        make_env(EnvSettings("CarRacing-v3", {}, crop_rows=[84, 84], frame_size=64))


def test_what_changed_since_the_frame_before():
    """Half the difference around 128, of two environments that play the same; none at first."""
    plain = make_env(EnvSettings("CarRacing-v3", {}, crop_rows=84, frame_size=64))
    env = make_env(EnvSettings("CarRacing-v3", {}, crop_rows=84, frame_size=64, difference=True))
    for seed in (3, 4):
        before, _ = plain.reset(seed=seed)
        first, _ = env.reset(seed=seed)
        assert (first == 128).all()
        for _ in range(3):
            frame, *_ = plain.step(np.array([0.5, 1, 0], np.float32))
            changed, *_ = env.step(np.array([0.5, 1, 0], np.float32))
            assert np.array_equal(changed, 128 + np.floor((frame.astype(float) - before) / 2))
            before = frame
    assert changed.std() > 1 and env.observation_space.contains(changed)
    with pytest.raises(UserError, match=r"env\.difference=false"):
        make_env(EnvSettings("CartPole-v1", {}, difference=True))


def test_frames_go_black_for_a_while():
    plain = make_env(EnvSettings("environments:Counting-v0", {}))
    env = make_env(EnvSettings("environments:Counting-v0", {}, blackout=[2, 3]))
    for _ in range(2):
        frame, _ = plain.reset(seed=8)
        assert np.array_equal(env.reset(seed=8)[0], frame), "each episode begins with what is shown"
        black = []
        for _ in range(8):
            frame, reward, *_ = plain.step(1)
            seen, found, *_ = env.step(1)
            black.append(not seen.any())
            assert found == reward and (black[-1] or np.array_equal(seen, frame))
        assert black == [False, True, True, True, False, False, True, True]
    for wrong in ("CartPole-v1", {"blackout": [1, 0]}), ("environments:Counting-v0", {"blackout": [0, 1]}):
        with pytest.raises(UserError, match=r"env\.blackout"):
            make_env(EnvSettings(wrong[0], {}, **{"blackout": [1, 1], **wrong[1]}))


def test_a_description_from_before_a_field_was_added_is_still_the_same_environment():
    plain = EnvSettings("CartPole-v1", {})
    assert plain.describe() == {
        "id": "CartPole-v1",
        "kwargs": {},
        "action_repeat": 1,
        "action_low": None,
        "action_high": None,
        "crop_rows": None,
        "frame_size": None,
        "stack": 1,
    }
    assert plain._replace(actions=[1]).describe() == {**plain.describe(), "actions": [1]}


def test_chosen_actions_are_numbered_from_0():
    env = make_env(EnvSettings("CartPole-v1", {}, actions=[1]))
    plain = make_env(EnvSettings("CartPole-v1", {}))
    env.reset(seed=0), plain.reset(seed=0)
    assert env.action_space.n == 1 and np.array_equal(env.step(0)[0], plain.step(1)[0])
    for actions in ([], [0, 0], [0, 2]):
        with pytest.raises(UserError, match=r"env\.actions"):
            make_env(EnvSettings("CartPole-v1", {}, actions=actions))
    with pytest.raises(UserError, match=r"env\.actions=null"):
        make_env(EnvSettings("CarRacing-v3", {}, actions=[1]))


def test_pong_in_grey():
    pytest.importorskip("ale_py", reason="needs the extra atari")
    kwargs = {"obs_type": "grayscale", "frameskip": 4, "repeat_action_probability": 0.0}
    env = make_env(EnvSettings("ALE/Pong-v5", kwargs, actions=[2, 3], frame_size=84, stack=4))
    frame, _ = env.reset(seed=0)
    assert frame.shape == (84, 84, 4) and frame.dtype == np.uint8 and frame.std() > 5
    for _ in range(20):
        after, reward, *_ = env.step(0)
    assert reward in (-1, 0, 1) and not np.array_equal(after[..., 3], after[..., 0])


def test_atari_without_its_package_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(UserError, match=r"\.\[atari\]"):
        make_env(EnvSettings("ALE/Pong-v5", {}))


def test_take_cover_pays_each_tic_and_is_its_seed():
    pytest.importorskip("vizdoom", reason="needs the extra doom")
    settings = EnvSettings("VizdoomTakeCover-v1", {"max_episode_steps": 525}, action_repeat=4, frame_size=64)

    def play(seed):
        env = make_env(settings)
        frame, _ = env.reset(seed=seed)
        frames, rewards, ended = [frame], [], False
        while not ended:
            frame, reward, terminated, truncated, _ = env.step(len(rewards) // 5 % 3)
            frames.append(frame), rewards.append(reward)
            ended = terminated or truncated
        env.close()
        return np.stack(frames), rewards

    frames, rewards = play(3)
    assert frames.shape[1:] == (64, 64, 3) and frames.dtype == np.uint8 and frames[0].std() > 5
    assert rewards[:5] == [4, 4, 4, 4, 4] and 10 < len(rewards) <= 525
    again, _ = play(3)
    other, _ = play(4)
    assert np.array_equal(frames, again) and not np.array_equal(frames, other)


def test_doom_without_its_package_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "vizdoom.gymnasium_wrapper", None)
    with pytest.raises(UserError, match=r"\.\[doom\]"):
        make_env(EnvSettings("VizdoomTakeCover-v1", {}))
