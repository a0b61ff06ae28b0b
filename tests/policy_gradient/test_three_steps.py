"""Gradients worked out by hand on a task of three states in a row, for every estimator, baseline and critic.

π(1|s) is 1/2, 3/4, 1/4, so that ∇log π(a|s) by the logit of action 1 is a − π(1|s). Two episodes, γ = λ = 1/2:
one plays 1, 0, 1 for the rewards 1, 2, 4 and is terminated; one plays 0, 1, 1 for 0, 2, 4 and is truncated.
"""

import math

import pytest
import torch

from worldmodels.policy_gradient.a2c import A2C
from worldmodels.policy_gradient.policies import Policy
from worldmodels.policy_gradient.ppo import PPO
from worldmodels.policy_gradient.q_actor_critic import QActorCritic, Transitions
from worldmodels.policy_gradient.reinforce import Reinforce
from worldmodels.types import Trajectory

DISCRETE = {"type": "discrete", "n": 2}
ACTION = torch.tensor([[1, 0], [0, 1], [1, 1]])
REWARD = torch.tensor([[1.0, 0.0], [2.0, 2.0], [4.0, 4.0]])
STATE = torch.eye(3)[:, None].expand(3, 2, 3)
LAST = torch.tensor([[False, False], [False, False], [True, False]])
CUT = torch.tensor([[False, False], [False, False], [False, True]])
SCORE = [[1 / 2, -1 / 2], [-3 / 4, 1 / 4], [3 / 4, 3 / 4]]  # a − π(1|s)


class World:
    batch, state_shape, action_space, frames_per_step = 2, (3,), DISCRETE, 1


def policy(action_values=False):
    """V = 1, 2, 4; or Q = (1, 3), (2, 0), (4, 8)."""
    made = Policy([3], DISCRETE, hidden=[], value_hidden=[], action_values=action_values)
    worth = [[1.0, 2.0, 4.0], [3.0, 0.0, 8.0]] if action_values else [[1.0, 2.0, 4.0]]
    with torch.no_grad():
        made.actor[0].weight.copy_(torch.tensor([[0.0] * 3, [0.0, math.log(3), -math.log(3)]]))
        made.critic[0].weight.copy_(torch.tensor(worth))
    return made


def trajectory(bootstraps):
    """V of the second episode's last state is 6."""
    next_value = torch.where(CUT, 6.0, 0.0) if bootstraps else torch.zeros(3, 2)
    return Trajectory(STATE, ACTION, REWARD, LAST, CUT, next_value, torch.ones(3, 2, dtype=torch.bool))


# ‖Σ ∇log π‖² over both logits' weights and biases: 2 (1/4 + 9/16 + 9/16) + 2 (1/2)² = 3.25, and 2.25
BEST = (3.25 * 3 + 2.25 * 2) / 5.5
BY_HAND = {  # what multiplies ∇log π, for each step: of the first episode, of the second
    (Reinforce, "total", "none"): [(3, 2), (3, 2), (3, 2)],
    (Reinforce, "total", "mean"): [(0.5, -0.5), (0.5, -0.5), (0.5, -0.5)],
    (Reinforce, "total", "optimal"): [(3 - BEST, 2 - BEST)] * 3,
    # the second's clock: 0 + 2/2 + 4/4 + 6/8 = 2.75
    (Reinforce, "total", "value"): [(3 - 1, 2.75 - 1), (3 - 2, 2.75 - 2), (3 - 4, 2.75 - 4)],
    (Reinforce, "reward_to_go", "none"): [(3, 2), (4, 4), (4, 4)],
    (Reinforce, "reward_to_go", "mean"): [(-0.5, -1.5), (0.5, 0.5), (0.5, 0.5)],
    (Reinforce, "reward_to_go", "value"): [(3 - 1, 2.75 - 1), (4 - 2, 5.5 - 2), (4 - 4, 7 - 4)],
    (A2C, "n_step", "value"): [(1 + 2 / 2 + 4 / 4 - 1, 0 + 2 / 2 + 4 / 4 - 1), (4 - 2, 2 + 4 / 2 + 6 / 4 - 2), (0, 3)],
    # δ = 1, 2, 0 and 0, 2, 3
    (A2C, "gae", "value"): [(1 + 2 / 4, 0 + 2.75 / 4), (2 + 0 / 4, 2 + 3 / 4), (0, 3)],
    (PPO, "gae", "value"): [(1.5, 0.6875), (2, 2.75), (0, 3)],
}


@pytest.mark.parametrize("key", BY_HAND, ids=lambda key: f"{key[0].__name__}-{key[1]}-{key[2]}")
def test_policy_gradient(key):
    cls, estimator, baseline = key
    options = {"discount": 0.5, "entropy_weight": 0.0}
    if cls is Reinforce:
        options |= {"estimator": estimator, "baseline": baseline}
    elif cls is A2C:
        options |= {"estimator": estimator, "lookahead": 2, "gae_lambda": 0.5}
    else:
        options |= {"epochs": 1, "minibatches": 1, "gae_lambda": 0.5}
    learner = cls(policy(), World(), steps=3, **options)
    learner.play = lambda: trajectory(baseline == "value")
    learner.loss(learner.next_batch())["loss"].backward()
    wanted = [-sum(s * w for s, w in zip(SCORE[t], BY_HAND[key][t])) / 6 for t in range(3)]
    gradient = learner.policy.actor[0].weight.grad
    assert gradient[1].tolist() == pytest.approx(wanted, abs=1e-6)
    assert gradient[0].tolist() == pytest.approx([-value for value in wanted], abs=1e-6)


CRITIC = {
    (Reinforce, "reward_to_go"): [(3, 2.75), (4, 5.5), (4, 7)],
    (A2C, "n_step"): [(3, 2), (4, 5.5), (4, 7)],
    (A2C, "gae"): [(1 + 1.5, 1 + 0.6875), (2 + 2, 2 + 2.75), (4, 4 + 3)],
}


@pytest.mark.parametrize("key", CRITIC, ids=lambda key: f"{key[0].__name__}-{key[1]}")
def test_critic_gradient(key):
    """½ · ∂(V − target)² of each step is V − target, less nothing through the target."""
    options = {"estimator": key[1], "discount": 0.5, "value_weight": 0.5, "entropy_weight": 0.0}
    options |= {"baseline": "value"} if key[0] is Reinforce else {"lookahead": 2, "gae_lambda": 0.5}
    learner = key[0](policy(), World(), steps=3, **options)
    learner.loss(trajectory(True))["loss"].backward()
    value = [1, 2, 4]
    wanted = [sum(value[t] - target for target in CRITIC[key][t]) / 6 for t in range(3)]
    assert learner.policy.critic[0].weight.grad[0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_entropy_gradient():
    """∂H/∂logit₁ = −p (1 − p) ln(p / (1 − p)): 0 at 1/2, ∓ 3/16 ln 3 at 3/4 and 1/4."""
    learner = A2C(policy(), World(), steps=3, entropy_weight=0.1)
    losses = learner.loss(trajectory(True))
    (gradient,) = torch.autograd.grad(losses["loss"] - losses["policy_loss"], learner.policy.actor[0].weight)
    slope = 3 / 16 * math.log(3)
    assert gradient[1].tolist() == pytest.approx([0, 0.1 * slope / 3, -0.1 * slope / 3], abs=1e-6)


TARGETS = {  # r + γ Q′ of both episodes
    ("max", True, 0.5): [(1 + 1, 0 + 1), (2 + 4, 2 + 4), (4, 4 + 1)],
    ("sarsa", True, 0.5): [(1 + 1, 0 + 0), (2 + 4, 2 + 4), (4, 4 + 1)],
    # Σ π Q = 1/2 in s₁, 5 in s₂
    ("expected", True, 0.5): [(1.25, 0.25), (4.5, 4.5), (4, 4.25)],
    # the slides' form
    ("max", False, 1.0): [(1 + 2, 0 + 2), (2 + 8, 2 + 8), (4 + 2, 4 + 2)],
}


@pytest.mark.parametrize("key", TARGETS, ids=lambda key: f"{key[0]}-masks{key[1]}")
@pytest.mark.parametrize("baseline", ["none", "value"])
def test_q_actor_critic_gradients(key, baseline):
    target, masks, discount = key
    options = {"value_weight": 0.5, "entropy_weight": 0.0, "baseline": baseline}
    learner = QActorCritic(policy(True), World(), 3, discount, target, masks, **options)
    following = torch.stack([STATE[1], STATE[2], STATE[1]])
    next_action = torch.tensor([[0, 1], [1, 1], [0, 0]])
    learner.loss(Transitions(STATE, ACTION, REWARD, LAST, following, next_action))["loss"].backward()
    q = [(3, 1), (2, 0), (8, 8)]
    value = [2, 0.5, 5] if baseline == "value" else [0, 0, 0]
    actor = [-sum(s * (one - value[t]) for s, one in zip(SCORE[t], q[t])) / 6 for t in range(3)]
    assert learner.policy.actor[0].weight.grad[1].tolist() == pytest.approx(actor, abs=1e-6)
    critic = [[0.0] * 3, [0.0] * 3]
    for t in range(3):
        for episode in range(2):
            critic[int(ACTION[t, episode])][t] += (q[t][episode] - TARGETS[key][t][episode]) / 6
    for row, wanted in zip(learner.policy.critic[0].weight.grad.tolist(), critic):
        assert row == pytest.approx(wanted, abs=1e-6)
