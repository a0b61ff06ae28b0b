import gymnasium
import numpy as np
import pytest

from worldmodels.envs.cart_pole import CartPoleVector
from worldmodels.envs.make import EnvSettings, make_envs, reset_some


def test_it_moves_as_cart_pole_does_to_the_bit():
    vector = make_envs(EnvSettings("CartPole-v1", {}), 5)
    assert isinstance(vector, CartPoleVector)
    single = [gymnasium.make("CartPole-v1") for _ in range(5)]
    shown = reset_some(vector, dict(enumerate(range(10, 15))))
    assert np.array_equal(shown, [env.reset(seed=10 + slot)[0] for slot, env in enumerate(single)])
    random, seed = np.random.default_rng(0), 15
    for step in range(700):
        # slot 0 balances, and so meets the clock
        action = random.integers(2, size=5)
        action[0] = shown[0, 2] + 0.3 * shown[0, 3] + 0.05 * shown[0, 0] + 0.1 * shown[0, 1] > 0
        shown, reward, terminated, truncated, _ = vector.step(action)
        for slot, env in enumerate(single):
            wanted = env.step(action[slot])
            assert np.array_equal(shown[slot], wanted[0])
            assert (reward[slot], terminated[slot], truncated[slot]) == wanted[1:4]
        ended = terminated | truncated
        if step == 499:
            assert truncated[0], "500 steps are the clock's"
        for slot in np.flatnonzero(ended):
            seed += 1
            shown = reset_some(vector, {int(slot): seed})
            assert np.array_equal(shown[slot], single[slot].reset(seed=seed)[0])
    assert seed > 100, "many episodes"
    unseeded = reset_some(vector, {1: None})  # pyright: ignore[reportArgumentType]
    assert not np.array_equal(unseeded[1], shown[1]) and np.array_equal(unseeded[0], shown[0])


@pytest.mark.parametrize("action", [[0, 2], [-1, 1], [0.5, 1.0]])
def test_actions_that_do_not_exist(action):
    with pytest.raises(ValueError, match="0 and 1"):
        CartPoleVector(2).step(np.array(action))
