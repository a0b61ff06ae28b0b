from contextlib import closing

import numpy as np
import pytest
import torch
from environments import episode_length

from worldmodels.envs.make import EnvSettings, make_envs
from worldmodels.errors import UserError
from worldmodels.memory.mdnrnn import MDNRNN
from worldmodels.rollouts.behaviours import Exploration
from worldmodels.rollouts.collect import play
from worldmodels.types import Posterior
from worldmodels.worlds.dream_world import DreamWorld, contexts_as_plain, contexts_from_plain
from worldmodels.worlds.gym_world import GymWorld, Observed
from worldmodels.worlds.latent_world import Driver, LatentTracker

BOX = {"type": "box", "low": [-1.0, -1.0], "high": [1.0, 1.0]}
COUNTING = {"type": "discrete", "n": 200}


def distances(some, others):
    return (some[:, None] - others).norm(dim=-1)


def dream(memory, contexts, **options):
    return DreamWorld(memory, contexts, BOX, **{"batch": 16, "horizon": 4, "terminates": False, **options})


# the real environment


def test_gym_world_hands_out_the_true_last_state_and_then_the_first():
    seeds = iter(range(100, 200))
    with closing(make_envs(EnvSettings("environments:Counting-v0", {}), 3, asynchronous=False)) as envs:
        world = GymWorld(envs, Observed(envs.single_observation_space), lambda: next(seeds))
        state = world.reset()
        playing = [100, 101, 102]
        t = [0, 0, 0]
        for _ in range(40):
            assert state[:, 3, 0, 0].tolist() == playing and state[:, 4, 0, 0].tolist() == t
            step = world.step(torch.tensor([7, 8, 9]))
            for place in range(3):
                t[place] += 1
                assert step.next_state[place, 4, 0, 0] == t[place], "the true successor"
                assert step.next_state[place, 3, 0, 0] == playing[place]
                assert step.reward[place] == 10 * (t[place] - 1) + 7 + place
                over = t[place] == episode_length(playing[place])
                assert bool(step.terminated[place]) == (over and playing[place] % 2 == 0)
                assert bool(step.truncated[place]) == (over and playing[place] % 2 == 1)
                if over:
                    t[place], playing[place] = 0, int(step.state[place, 3, 0, 0])
            state = step.state
        assert max(playing) > 110, "each episode takes the next seed"


# the latent world


def counting_encoder(frame):
    """z = (seed, t, last action), exactly."""
    word = frame.reshape(len(frame), 8).float()
    return Posterior(word[:, 3:6], torch.full((len(frame), 3), -20.0))


def test_latent_states_are_z_and_an_h_that_begins_anew_with_each_episode():
    torch.manual_seed(0)
    memory = MDNRNN(3, 200, hidden_dim=4, restart_input=True)
    seeds = iter(range(50, 90))
    with closing(make_envs(EnvSettings("environments:Counting-v0", {}), 2, asynchronous=False)) as envs:
        tracker = LatentTracker(counting_encoder, memory, COUNTING, 2)
        world = GymWorld(envs, tracker, lambda: next(seeds))
        state = world.reset()
        assert (state[:, 3:] == 0).all()
        expected = [memory.initial_state(1)] * 2
        first = [True, True]
        for number in range(25):
            action = torch.tensor([number % 200, 3])
            step = world.step(action)
            for place in range(2):
                one_hot = torch.nn.functional.one_hot(action[place : place + 1], 200).float()
                z = state[place : place + 1, :3]
                after = memory.step(z, one_hot, torch.tensor([first[place]]), expected[place])
                assert torch.allclose(step.next_state[place, 3:], after.h[0], atol=1e-6)
                assert step.next_state[place, 2] == action[place], "z of the true next frame"
                ended = bool(step.terminated[place] | step.truncated[place])
                expected[place] = memory.initial_state(1) if ended else after
                first[place] = ended
                assert torch.allclose(step.state[place, 3:], expected[place].h[0], atol=1e-6)
                assert step.state[place, 1] == (0 if ended else step.next_state[place, 1])
            state = step.state


def test_a_c_without_memory_sees_z_or_the_last_four():
    """The second entry of z is the time within the episode, the first the episode's seed."""
    memory = MDNRNN(3, 200, hidden_dim=4)
    for sees, size in (("z", 3), ("z4", 12), ("z_h", 7), ("z_h_c", 11)):
        seeds = iter(range(50, 90))
        with closing(make_envs(EnvSettings("environments:Counting-v0", {}), 2, asynchronous=False)) as envs:
            tracker = LatentTracker(counting_encoder, memory, COUNTING, 2, sees)
            world = GymWorld(envs, tracker, lambda seeds=seeds: next(seeds))
            assert world.state_shape == (size,)
            state = world.reset()
            for _ in range(20):
                if sees == "z4":
                    seed, time = state.view(2, 4, 3)[..., 0], state.view(2, 4, 3)[..., 1]
                    assert (seed == seed[:, :1]).all(), "of this episode alone"
                    ages = torch.stack([(time[:, -1] - back).clamp(min=0) for back in (3, 2, 1, 0)], 1)
                    assert torch.equal(time, ages)
                assert state.shape == (2, size)
                state = world.step(torch.tensor([3, 4])).state
    with pytest.raises(UserError, match=r"controller\.sees"):
        LatentTracker(counting_encoder, memory, COUNTING, 2, "everything")


def test_a_driver_sees_what_the_latent_world_shows():
    """The same policy over the same seeds, once through the world and once through `play`."""
    torch.manual_seed(0)
    memory = MDNRNN(3, 200, hidden_dim=4)

    def act(state):
        return (state[:, 3:].sum(1).abs() * 1000 + state[:, 1]).long() % 200

    def envs():
        return closing(make_envs(EnvSettings("environments:Counting-v0", {}), 1, asynchronous=False))

    with envs() as real:
        driver = Driver(LatentTracker(counting_encoder, memory, COUNTING, 1), act)
        driven = [episode.action.tolist() for episode in play(real, driver, range(10, 16))]
    seeds = iter(range(10, 100))
    with envs() as real:
        world = GymWorld(real, LatentTracker(counting_encoder, memory, COUNTING, 1), lambda: next(seeds))
        state, stepped = world.reset(), [[]]
        while len(stepped) <= 6:
            action = act(state)
            stepped[-1].append(action.item())
            step = world.step(action)
            state = step.state
            if step.terminated | step.truncated:
                stepped.append([])
    assert driven == stepped[:6]
    assert len({action for episode in driven for action in episode}) > 5


def test_exploration_noise_is_seeded_by_the_episode_and_stays_in_range():
    tracker = LatentTracker(counting_encoder, MDNRNN(3, 2, 4), BOX, 2)
    frames = np.zeros((2, 8, 1, 1), np.uint8)

    def actions(seeds):
        driver = Driver(tracker, lambda state: torch.zeros(2, 2), Exploration(BOX, 0.5))
        driver.begin(dict(enumerate(seeds)))
        return np.stack([driver(frames) for _ in range(300)])

    both, swapped = actions([4, 5]), actions([5, 4])
    assert np.array_equal(both[:, 0], swapped[:, 1]) and not np.array_equal(both[:, 0], both[:, 1])
    assert np.abs(both).max() <= 1
    # a normal of deviation ½, clipped at ±1: variance 0.2302 by integration
    assert both.var() == pytest.approx(0.2302, abs=0.02)


# the dream


def test_a_dream_begins_at_a_real_latent_with_a_warm_h(memory, contexts):
    world = dream(memory, contexts)
    state = world.reset()
    ends = contexts.observation.mean[-1]
    which = distances(state[:, :3], ends).argmin(1)
    assert torch.allclose(state[:, :3], ends[which], atol=1e-5), "z of a context's last frame"
    assert len(which.unique()) > 5
    h = memory.initial_state(16).h
    c = h
    for t in range(5):
        h, c = memory.step(
            contexts.observation.mean[t, which], contexts.action[t, which], torch.zeros(16).bool(), (h, c)
        )
    assert torch.allclose(state[:, 3:], h, atol=1e-5) and h.abs().max() > 0.05


def test_a_dream_step_is_m_s_prediction(memory, contexts):
    world = dream(memory, contexts, sees="z_h_c")
    state = world.reset()
    action = torch.randn(16, 2)
    z, h, c = state.split([3, 8, 8], -1)
    after = memory.step(z, action, torch.zeros(16).bool(), (h, c))
    step = world.step(action)
    assert torch.allclose(step.state[:, 3:], torch.cat(after, -1), atol=1e-6)
    assert torch.allclose(step.reward, memory.predict(after.h).reward, atol=1e-6)


def test_a_dream_has_no_frames_to_stack(memory, contexts):
    with pytest.raises(UserError, match="z_h"):
        dream(memory, contexts, sees="z4")
    assert dream(memory, contexts, sees="z").reset().shape == (16, 3)


def test_dreams_end_at_the_horizon_and_begin_anew(memory, contexts):
    world = dream(memory, contexts, horizon=3)
    world.reset()
    for t in range(1, 10):
        step = world.step(torch.zeros(16, 2))
        assert not step.terminated.any()
        assert step.truncated.all() == (t % 3 == 0) and step.truncated.any() == (t % 3 == 0)
        if t % 3 == 0:
            ends = contexts.observation.mean[-1]
            nearest = distances(step.state[:, :3], ends).min(1).values
            assert (nearest < 1e-4).all(), "a fresh start"
            assert not torch.equal(step.state, step.next_state)
        else:
            assert torch.equal(step.state, step.next_state)


def test_ends_are_drawn_with_m_s_probability(memory, contexts):
    with torch.no_grad():
        memory.heads.weight[-1] = 0
        memory.heads.bias[-1] = -1.0  # sigmoid(−1) = 0.2689
    world = dream(memory, contexts, batch=500, horizon=50, terminates=True)
    world.reset()
    ended = torch.stack([world.step(torch.zeros(500, 2)).terminated for _ in range(40)])
    assert ended.float().mean().item() == pytest.approx(0.2689, abs=0.01)
    quiet = dream(memory, contexts, batch=500, terminates=False)
    quiet.reset()
    assert not quiet.step(torch.zeros(500, 2)).terminated.any()


def test_an_early_end_restarts_that_dream_only(memory, contexts):
    with torch.no_grad():
        memory.heads.weight[-1] = 0
        memory.heads.bias[-1] = -1.0
    world = dream(memory, contexts, batch=64, horizon=100, terminates=True)
    world.reset()
    step = world.step(torch.zeros(64, 2))
    changed = (step.state != step.next_state).any(1)
    assert torch.equal(changed, step.terminated) and 0 < int(changed.sum()) < 64
    nearest = distances(step.state[changed][:, :3], contexts.observation.mean[-1]).min(1).values
    assert (nearest < 1e-4).all()


def test_the_same_seed_dreams_the_same_and_temperature_widens(memory, contexts):
    def spread(temperature, seed=0):
        world = dream(memory, contexts, batch=400, temperature=temperature, seed=seed)
        state = world.reset()
        return world.step(torch.zeros(400, 2)).next_state, state

    (one, _), (two, _), (other, _) = spread(1.0), spread(1.0), spread(1.0, seed=1)
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert spread(2.0)[0][:, :3].std() > 1.2 * spread(0.1)[0][:, :3].std()


def test_contexts_survive_a_checkpoint(contexts):
    padded = contexts._replace(valid=contexts.valid.clone(), terminated=contexts.terminated.clone())
    padded.valid[-1, 0] = False
    padded.terminated[2, 1] = True
    again = contexts_from_plain(contexts_as_plain(padded))
    assert torch.equal(again.observation.mean, contexts.observation.mean[:, 2:]), "padded and ended ones are left out"
    assert torch.equal(again.action, contexts.action[:, 2:])


def test_a_dream_without_room(memory, contexts):
    with pytest.raises(ValueError, match="horizon"):
        dream(memory, contexts, horizon=0)
