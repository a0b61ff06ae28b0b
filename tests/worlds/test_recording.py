"""Rollouts recorded as CUDA graphs; without a GPU a stand-in that runs what would be recorded."""

import pytest
import torch
from recordings import RunEachTime

from worldmodels.memory.mdnrnn import MDNRNN
from worldmodels.policy_gradient.a2c import A2C
from worldmodels.policy_gradient.policies import Policy
from worldmodels.types import Posterior, Window
from worldmodels.worlds import dream_world
from worldmodels.worlds.dream_world import DreamWorld
from worldmodels.worlds.rival_dreams import DoubtedDream, EnsembleDream

BOX = {"type": "box", "low": [-1.0, -1.0], "high": [1.0, 1.0]}
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


def world_on(device, monkeypatch, kind="plain"):
    if device == "cpu":
        monkeypatch.setattr(dream_world, "Recording", RunEachTime)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    steps = torch.ones(5, 40, dtype=torch.bool, device=device)
    latents = torch.randn(6, 40, 3, generator=generator).to(device)
    actions = torch.randn(5, 40, 2, generator=generator).to(device)
    contexts = Window(
        Posterior(latents, torch.full_like(latents, -20.0)), actions, actions[..., 0], ~steps, ~steps, steps
    )
    memory = MDNRNN(3, 2, hidden_dim=8).to(device)
    with torch.no_grad():
        memory.heads.bias[-1] = -1.0  # many ends
    given = {"memory": memory, "contexts": contexts, "action_space": BOX, "batch": 16, "horizon": 7}
    if kind == "plain":
        return DreamWorld(**given)
    given["rivals"] = [MDNRNN(3, 2, hidden_dim=8).to(device)]
    return EnsembleDream(**given) if kind == "ensemble" else DoubtedDream(**given, doubt=1.0)


def still(state):
    return torch.tanh(state[:, :2])


@pytest.mark.parametrize("kind", ["plain", "ensemble", "doubted"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_rollout_is_what_steps_would_have_been(device, kind, monkeypatch):
    """Two rollouts of 6 steps: each step follows from the state before it, and ends begin anew, as `step` has it."""
    world = world_on(device, monkeypatch, kind)
    world.reset()
    rollouts = [world.rollout(still, 6) for _ in range(2)]
    if device == "cpu":  # on a GPU a recording sets itself up by a run of its own, and so draws other numbers
        again = world_on(device, monkeypatch, kind)
        again.reset()
        for rollout in rollouts:
            again._warm_up()
            for t in range(6):
                state = again._state(again.dream)
                assert torch.equal(rollout.state[t], state) and torch.equal(rollout.action[t], still(state))
                again.dream, step = again._advance(again.dream, again.starts, still(state))
                for name in ("next_state", "reward", "terminated", "truncated"):
                    assert torch.equal(getattr(rollout, name)[t], getattr(step, name))
        assert torch.equal(world.generator.get_state(), again.generator.get_state())
    whole = [torch.cat(parts) for parts in zip(*rollouts, strict=True)]
    state, action, next_state, _, terminated, truncated = whole
    assert terminated.any() and truncated.any() and not (terminated & truncated).any()
    goes_on = ~(terminated | truncated)[:-1]
    assert torch.equal(state[1:][goes_on], next_state[:-1][goes_on]), "within a dream, across the two rollouts too"
    assert not torch.equal(state[1:][~goes_on], next_state[:-1][~goes_on])
    assert torch.allclose(action, still(state.flatten(0, 1)).view_as(action))


@pytest.mark.parametrize("device", DEVICES)
def test_a_learner_plays_recorded_rollouts(device, monkeypatch):
    world = world_on(device, monkeypatch)
    world.records = True
    learner = A2C(Policy(world.state_shape, BOX).to(device), world, steps=6).to(device)
    first, second = learner.play(), learner.play()
    assert len(world.recordings) == 1 and learner.steps_played == 2 * 6 * 16
    assert first.state.shape == (6, 16, 11) and first.valid.all()
    assert not torch.equal(first.state, second.state)
    needed = first.truncated.clone()
    needed[-1] = True
    assert (first.next_value[~needed] == 0).all() and (first.next_value[needed] != 0).any()
    losses = learner.loss(second)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])


@pytest.mark.gpu
@NO_GPU
def test_a_replay_reads_the_weights_as_they_are_now(monkeypatch):
    world = world_on("cuda", monkeypatch)
    policy = Policy(world.state_shape, BOX, hidden=[]).cuda()
    world.reset()

    def act(state):
        return policy.act(state)

    world.rollout(act, 3)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    rollout = world.rollout(act, 3)
    assert torch.allclose(rollout.action, policy.act(rollout.state.flatten(0, 1)).view_as(rollout.action), atol=1e-5)
