"""The compiled update beside the plain one. What is compiled here is traced, then run by torch as it is."""

from functools import partial

import pytest
import torch
from corridor import DISCRETE, Corridor

from worldmodels.policy_gradient.a2c import A2C
from worldmodels.policy_gradient.policies import Policy
from worldmodels.policy_gradient.ppo import PPO
from worldmodels.policy_gradient.q_actor_critic import QActorCritic
from worldmodels.policy_gradient.reinforce import Reinforce
from worldmodels.q_learning.dqn import DQN
from worldmodels.q_learning.network import QNetwork

BOX = {"type": "box", "low": [-1.0, -1.0], "high": [1.0, 1.0]}


class Filmed(Corridor):
    """The corridor as frames: the place is a bright column."""

    state_shape = (36, 36, 3)

    def state(self):
        columns = super().state().repeat_interleave(9, 1)[:, None, :, None]
        return (columns * 255).to(torch.uint8).expand(-1, 36, 36, 3).contiguous()


class Lane(Corridor):
    """To the right where the first of two continuous actions is positive."""

    action_space = BOX

    def step(self, action):
        return super().step((action[:, 0] > 0).long())


@pytest.fixture
def traced(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    yield
    torch._dynamo.reset()


def parts(algorithm, distribution="beta", **options):
    torch.manual_seed(3)
    if algorithm is DQN:
        return DQN(QNetwork([4], DISCRETE, [8]), Corridor(), 4, batch_size=16, warm_up=12, **options)
    world = {"categorical": Corridor, "frames": Filmed}.get(distribution, Lane)()
    values = {"action_values": algorithm is QActorCritic}
    known = {"distribution": distribution} if isinstance(world, Lane) else {}
    policy = Policy(world.state_shape, world.action_space, [8], [8], **known, **values)
    return algorithm(policy, world, steps=4, **options)


CASES = [
    (A2C, "categorical", {}),
    (A2C, "categorical", {"normalize_advantage": True, "estimator": "n_step"}),
    (A2C, "beta", {"entropy_weight": 0.1}),
    (A2C, "gaussian", {}),
    (A2C, "frames", {"critic_learning_rate": 1e-2}),
    (PPO, "beta", {}),
    (QActorCritic, "categorical", {"target": "max"}),
    (DQN, "", {"double": True}),
    (DQN, "", {"double": False}),
]


@pytest.mark.parametrize("algorithm, distribution, options", CASES)
@pytest.mark.parametrize("norm", [1e-2, 1e2])
def test_compiled_losses_gradients_and_steps_are_autograds(traced, algorithm, distribution, options, norm):
    learner = parts(algorithm, distribution, max_gradient_norm=norm, **options)
    batch = learner.next_batch()
    torch.manual_seed(4)  # the Gaussian's entropy is drawn
    losses = learner.loss(batch)
    learner.backward(losses["loss"])
    before = torch.nn.utils.get_total_norm([p.grad for p in learner.policy.parameters() if p.grad is not None])
    learner.configure_gradient_clipping(None)
    wanted = {name: p.grad.clone() for name, p in learner.policy.named_parameters()}
    begun = {name: value.clone() for name, value in learner.policy.state_dict().items()}
    learner.configure_optimizers().step()
    stepped = {name: value.clone() for name, value in learner.policy.state_dict().items()}
    assert (before > norm) == (norm == 1e-2), "one case is clipped, the other is not"

    learner.policy.zero_grad()
    learner.policy.load_state_dict(begun)
    learner.compile_loss()
    torch.manual_seed(4)
    found = learner.losses_of(batch)
    learner.backward(found["loss"])
    learner.configure_gradient_clipping(None)
    for name, value in losses.items():
        assert torch.allclose(found[name], value, atol=1e-6), name
    for name, parameter in learner.policy.named_parameters():
        assert torch.allclose(parameter.grad, wanted[name], atol=1e-6), name
    learner.configure_optimizers().step()
    for name, value in learner.policy.state_dict().items():
        assert torch.allclose(value, stepped[name], atol=1e-5), name


def test_a_compiled_update_uses_the_weights_of_now(traced):
    learner = parts(A2C, "categorical")
    learner.compile_loss()
    batch = learner.next_batch()
    first = learner.compiled(batch)["loss"]
    with torch.no_grad():
        for parameter in learner.policy.parameters():
            parameter.add_(0.1)
    again = learner.compiled(batch)["loss"]
    assert not torch.isclose(first, again)
    assert torch.isclose(again, learner.loss(batch)["loss"], atol=1e-6)


def test_whole_episodes_stay_as_they_are(traced):
    learner = parts(Reinforce, "categorical")
    learner.compile_loss()
    assert learner.compiled is None


def test_as_many_learners_as_a_long_pipeline_has_rounds(traced):
    """Each other than the last: torch would give up at the ninth variant of the same lines."""
    for number in range(10):
        learner = parts(A2C, "categorical", entropy_weight=0.01 * number)
        learner.compile_loss()
        learner.losses_of(learner.next_batch())
