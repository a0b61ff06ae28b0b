import math

import pytest
import torch
from torch.distributions import AffineTransform, Beta, Normal, TanhTransform, TransformedDistribution

from worldmodels.errors import UserError
from worldmodels.policy_gradient.policies import BetaActions, CategoricalActions, Policy, SquashedGaussianActions

LOW, HIGH = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([1.0, 0.5, 2.5])
BOX = {"type": "box", "low": LOW.tolist(), "high": HIGH.tolist()}
DISCRETE = {"type": "discrete", "n": 4}


def test_beta_density_against_torch():
    torch.manual_seed(0)
    parameters = torch.randn(100, 6)
    actions = BetaActions(parameters, LOW, HIGH)
    alpha, beta = (torch.nn.functional.softplus(part) + 1 for part in parameters.chunk(2, -1))
    reference = TransformedDistribution(Beta(alpha, beta), AffineTransform(LOW, HIGH - LOW))
    drawn = actions.sample()
    assert ((drawn >= LOW) & (drawn <= HIGH)).all()
    assert torch.allclose(actions.log_prob(drawn), reference.log_prob(drawn).sum(-1), atol=1e-3)
    entropy = Beta(alpha, beta).entropy() + (HIGH - LOW).log()
    assert torch.allclose(actions.entropy(), entropy.sum(-1), atol=1e-5)


def test_squashed_gaussian_density_against_torch():
    torch.manual_seed(0)
    mean, log_std = torch.randn(100, 3).double(), 0.3 * torch.randn(100, 3).double()
    low, high = LOW.double(), HIGH.double()
    actions = SquashedGaussianActions(mean, log_std, low, high)
    reference = TransformedDistribution(
        Normal(mean, log_std.exp()), [TanhTransform(), AffineTransform((low + high) / 2, (high - low) / 2)]
    )
    drawn = actions.sample()
    assert ((drawn >= low) & (drawn <= high)).all()
    share = (drawn - low) / (high - low)
    inside = ((share > 1e-4) & (share < 1 - 1e-4)).all(-1)  # atanh loses digits at the bounds, torch's and ours
    assert inside.sum() > 80
    assert torch.allclose(actions.log_prob(drawn)[inside], reference.log_prob(drawn).sum(-1)[inside], atol=1e-6)


def test_squashed_gaussian_entropy_is_unbiased():
    torch.manual_seed(0)
    one = torch.ones(200_000, 1)
    actions = SquashedGaussianActions(0.3 * one, -0.5 * one, -one[0], one[0])
    drawn = actions.sample()
    assert actions.entropy().mean().item() == pytest.approx(-actions.log_prob(drawn).mean().item(), abs=0.01)


def test_draws_have_the_moments_of_their_distribution():
    """u = atanh of the draw is N(μ, σ²); a Beta draw has mean α / (α + β) of the box; categories have their chances."""
    torch.manual_seed(0)
    many = torch.ones(200_000, 1)
    low, high = torch.tensor([-2.0]), torch.tensor([4.0])
    drawn = SquashedGaussianActions(0.7 * many, -1.2 * many, low, high).sample()
    u = torch.atanh((drawn - 1) / 3)
    assert u.mean().item() == pytest.approx(0.7, abs=0.003)
    assert u.std().log().item() == pytest.approx(-1.2, abs=0.01)
    parameters = torch.cat([2.0 * many, -1.0 * many], -1)
    alpha, beta = (1 + torch.nn.functional.softplus(torch.tensor(value)).item() for value in (2.0, -1.0))
    share = (BetaActions(parameters, low, high).sample() + 2) / 6
    assert share.mean().item() == pytest.approx(alpha / (alpha + beta), abs=0.002)
    spread = alpha * beta / ((alpha + beta) ** 2 * (alpha + beta + 1))
    assert share.var().item() == pytest.approx(spread, rel=0.02)
    chances = torch.tensor([0.1, 0.2, 0.7])
    found = torch.bincount(CategoricalActions(chances.log().expand(200_000, 3)).sample()) / 200_000
    assert torch.allclose(found, chances, atol=0.005)


@pytest.mark.parametrize("distribution", ["beta", "gaussian"])
def test_densities_stay_finite_at_the_bounds(distribution):
    policy = Policy([5], BOX, hidden=[], distribution=distribution)
    actions, _ = policy(torch.zeros(2, 5))
    log_prob = actions.log_prob(torch.stack([LOW, HIGH]))
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert all(torch.isfinite(p.grad).all() for p in policy.actor.parameters())


@pytest.mark.parametrize("space, shape", [(BOX, (7, 4, 3)), (DISCRETE, (7, 4))])
@pytest.mark.parametrize("state_shape", [(6,), (64, 64, 3)])
def test_shapes(space, shape, state_shape):
    policy = Policy(state_shape, space)
    state = torch.randint(0, 255, (7, 4, *state_shape), dtype=torch.uint8)
    state = state if len(state_shape) == 3 else state.float()
    actions, value = policy(state)
    drawn = actions.sample()
    assert drawn.shape == shape and value.shape == (7, 4) and actions.greedy().shape == shape
    assert actions.log_prob(drawn).shape == actions.entropy().shape == (7, 4)
    assert torch.equal(policy.value(state), value)


def test_a_linear_policy_has_no_hidden_layer():
    policy = Policy(
        [288], {"type": "box", "low": [-1.0, 0, 0], "high": [1.0, 1, 1]}, hidden=[], distribution="gaussian"
    )
    assert sum(p.numel() for p in policy.actor.parameters()) == 867


def test_greedy_actions_by_hand():
    """softplus(0) + 1 on both sides is a symmetric Beta: the middle of the box. tanh(0) likewise."""
    middle = (LOW + HIGH) / 2
    assert torch.allclose(BetaActions(torch.zeros(6), LOW, HIGH).greedy(), middle)
    # softplus(x) = 2 and 5 give Beta(3, 6), whose mean is 1/3
    alpha, beta = torch.tensor([2.0, 5.0]).expm1().log()
    one = BetaActions(torch.stack([alpha, beta]), torch.zeros(1), torch.ones(1)).greedy()
    assert one.item() == pytest.approx(1 / 3, abs=1e-6)
    assert torch.allclose(SquashedGaussianActions(torch.zeros(3), torch.zeros(3), LOW, HIGH).greedy(), middle)
    assert CategoricalActions(torch.tensor([[0.1, 2.0, -1.0]])).greedy().tolist() == [1]


@pytest.mark.parametrize("distribution", ["beta", "gaussian"])
def test_a_sharper_policy_varies_less_around_the_same_action(distribution):
    """Beta(1 + log 2, 1 + log 2) thrice as sharp has variance 1 / (4 (6 (1 + log 2) + 1)); σ² / 3 of u."""
    torch.manual_seed(0)
    policy = Policy([5], {"type": "box", "low": [0.0], "high": [1.0]}, hidden=[], distribution=distribution)
    states = torch.zeros(200_000, 5)  # the biases are 0: the middle of the box
    plain = policy.act(states[:1])
    policy.sharpness.fill_(3.0)
    assert torch.allclose(policy.act(states[:1]), plain) and "sharpness" not in policy.state_dict()
    drawn = policy.act(states, sample=True)
    if distribution == "beta":
        assert drawn.var().item() == pytest.approx(1 / (4 * (6 * (1 + math.log(2)) + 1)), rel=0.02)
    else:
        u = torch.atanh((2 * drawn - 1).clamp(-1 + 1e-6, 1 - 1e-6))
        assert u.var().item() == pytest.approx(math.exp(-1) / 3, rel=0.02)


def test_a_sharper_policy_of_discrete_actions():
    """Chances of 1/4 and 3/4 squared, 1/16 and 9/16, come to 1/10 and 9/10."""
    policy = Policy([1], {"type": "discrete", "n": 2}, hidden=[])
    with torch.no_grad():
        policy.actor.state_dict()[next(name for name in policy.actor.state_dict() if name.endswith("bias"))].copy_(
            torch.tensor([0.25, 0.75]).log()
        )
    policy.sharpness.fill_(2.0)
    actions, _ = policy(torch.zeros(1, 1))
    assert actions.probabilities[0].tolist() == pytest.approx([0.1, 0.9])


def test_unknown_distribution():
    with pytest.raises(UserError, match="beta or gaussian"):
        Policy([3], BOX, distribution="cauchy")
