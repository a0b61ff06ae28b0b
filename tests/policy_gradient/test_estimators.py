"""The estimators where everything that can happen is known: by hand, by enumeration, by sampling."""

import pytest
import torch

from worldmodels.errors import UserError
from worldmodels.policy_gradient.estimators import Estimator, optimal_baseline
from worldmodels.policy_gradient.learner import score_norms
from worldmodels.policy_gradient.policies import Policy
from worldmodels.stages.gradient_lab import TRIALS, Laboratory, Trial, measure
from worldmodels.tabular.mdp import laboratory
from worldmodels.tracking import Progress
from worldmodels.types import Trajectory


@pytest.fixture(scope="module")
def lab():
    return Laboratory(laboratory())


def three_steps():
    """One episode, rewards 1, 2, 4, that ends; V(s) = 10, 20, 30."""
    reward = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    ended = torch.tensor([[False], [False], [True]])
    nothing = torch.zeros_like(reward)
    trajectory = Trajectory(nothing, nothing, reward, ended, ended & False, nothing, ~ended | ended)
    return trajectory, torch.tensor([[10.0], [20.0], [30.0]], dtype=torch.float64)


# γ = 0.5: to go 3, 4, 4; in all 3. λ = 0.5. By hand:
BY_HAND = [
    (("total", "none"), [3.0, 3.0, 3.0]),
    (("total", "mean"), [0.0, 0.0, 0.0]),
    (("total", "value"), [3 - 10.0, 3 - 20.0, 3 - 30.0]),
    (("total", "optimal"), [0.0, 0.0, 0.0]),
    (("reward_to_go", "none"), [3.0, 4.0, 4.0]),
    (("reward_to_go", "mean"), [3 - 11 / 3, 4 - 11 / 3, 4 - 11 / 3]),
    (("reward_to_go", "value"), [-7.0, -16.0, -26.0]),
    # δ = 1 + 10 − 10, 2 + 15 − 20, 4 − 30
    (("n_step", "value"), [1 + 1 + 7.5 - 10, 4 - 20.0, 4 - 30.0]),
    (("gae", "value"), [1 + 0.25 * (-3 + 0.25 * -26), -3 + 0.25 * -26, -26.0]),
]


@pytest.mark.parametrize("names, wanted", BY_HAND)
def test_weights_by_hand(names, wanted):
    trajectory, value = three_steps()
    estimator = Estimator(*names, discount=0.5, gae_lambda=0.5, lookahead=2)
    weight, target = estimator(trajectory, value, torch.ones_like(value))
    assert weight[:, 0].tolist() == pytest.approx(wanted, abs=1e-12)
    if names[1] == "value" and names[0] != "total":
        assert (target - value)[:, 0].tolist() == pytest.approx(wanted, abs=1e-12)


def test_the_optimal_constant_counts_each_episode_once():
    """Returns 6 over one step and 2 over three, squared scores 1 and 3: b = (1 · 6 + 3 · 2) / 4 = 3."""
    reward = torch.tensor([[6.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    ended = torch.tensor([[True, False], [False, False], [False, True]])
    nothing, valid = torch.zeros_like(reward), torch.tensor([[True, True], [False, True], [False, True]])
    trajectory = Trajectory(nothing, nothing, reward, ended, ended & False, nothing, valid)
    weight, _ = Estimator("total", "optimal", 1.0)(trajectory, nothing, torch.tensor([1.0, 3.0]).expand(3, 2))
    assert weight[valid].tolist() == [3.0, -1.0, -1.0, -1.0]


def test_the_exact_gradient_agrees_with_finite_differences(lab):
    step = 1e-6
    for at in [(0, 0), (1, 1), (2, 0)]:
        up, down = lab.theta.clone(), lab.theta.clone()
        up[at] += step
        down[at] -= step
        slope = (lab.objective(up) - lab.objective(down)) / (2 * step)
        assert lab.gradient()[at].item() == pytest.approx(slope.item(), abs=1e-8)


def test_the_enumeration_is_complete(lab):
    trajectory, chance = lab.enumerate()
    assert chance.sum().item() == pytest.approx(1, abs=1e-12)
    returns = (trajectory.reward * trajectory.valid).sum(0)
    assert (chance * returns).sum().item() == pytest.approx(lab.objective(lab.theta).item(), abs=1e-12)


@pytest.mark.parametrize(
    "trial", [t for t in TRIALS if t.estimator.baseline in ("none", "value")], ids=lambda t: t.name
)
def test_expectation_by_enumeration(lab, trial):
    """Σ p(τ) ĝ(τ) is ∇J to 1e-10 exactly for those that theory calls unbiased."""
    trajectory, chance = lab.enumerate()
    mean = torch.einsum("n,nsa->sa", chance, lab.estimates(trial, trajectory))
    away = (mean - lab.gradient()).abs().max().item()
    assert away < 1e-10 if trial.unbiased else away > 1e-2


def test_a_constant_baseline_is_unbiased_and_the_optimal_one_has_the_least_variance(lab):
    """Against its closed form, and its neighbours, by enumeration."""
    trajectory, chance = lab.enumerate()
    score = lab.score(trajectory).sum(0).flatten(1)
    returns = (trajectory.reward * trajectory.valid).sum(0)
    norms = score.square().sum(1)
    best = (chance * norms * returns).sum() / (chance * norms).sum()
    assert optimal_baseline(returns.repeat(2), (chance * norms).repeat(2)).item() == pytest.approx(
        best.item(), abs=1e-12
    )

    def variance(constant):
        each = (returns - constant)[:, None] * score
        mean = (chance[:, None] * each).sum(0)
        assert torch.allclose(mean, lab.gradient().flatten(), atol=1e-10)
        return (chance * (each - mean).square().sum(1)).sum().item()

    assert variance(best) < min(variance(best - 0.1), variance(best + 0.1), variance(0.0))
    # the variance is a parabola in b whose curvature is E‖score‖²
    assert variance(best + 0.1) - variance(best) == pytest.approx(0.01 * (chance * norms).sum().item(), rel=1e-6)


def test_batch_mean_shrinks_the_gradient_by_its_own_share(lab):
    """With R(τ) of a single-step task, b = mean of N returns that hold the episode's own: E[ĝ] = (1 − 1/N) ∇J."""
    short = Laboratory(laboratory(), horizon=1)
    trial = Trial("", Estimator("total", "mean", 1.0), False)
    generator = torch.Generator().manual_seed(0)
    found = torch.stack([short.estimates(trial, short.sample(4, generator)).mean(0) for _ in range(4000)])
    error = (found.flatten(1).var(0) / len(found)).sum().sqrt()
    assert (found.mean(0) - 0.75 * short.gradient()).norm() < 2 * error
    assert (found.mean(0) - short.gradient()).norm() > 4 * error


def test_variance_falls_from_total_to_reward_to_go_to_value(lab):
    """And what is unbiased is within two standard errors of ∇J; 10⁶ episodes are in gradient_lab.py."""
    with Progress("laboratory", 1, "episodes", interval=1e9) as progress:
        table = measure(lab, TRIALS, [10], 100_000, 0, progress)
    total, to_go, value = (table[name].points[0] for name in ("total return", "reward-to-go", "reward-to-go − V(s)"))
    assert total.variance_low > to_go.variance_high and to_go.variance_low > value.variance_high
    for trial in TRIALS:
        point = table[trial.name].points[0]
        assert trial.unbiased == (point.bias < 2 * point.bias_error), trial.name


@pytest.mark.parametrize("space", [{"type": "discrete", "n": 3}, {"type": "box", "low": [-1.0] * 2, "high": [1.0] * 2}])
def test_score_norms_against_one_backward_pass_an_episode(space):
    torch.manual_seed(0)
    policy = Policy([4], space, hidden=[5], value_hidden=[5])
    state = torch.randn(6, 3, 4)
    action = policy.act(state, sample=True)
    valid = torch.rand(6, 3) < 0.7
    nothing = torch.zeros(6, 3)
    trajectory = Trajectory(state, action, nothing, valid, valid, nothing, valid)
    norms = score_norms(policy, trajectory)
    for episode in range(3):
        policy.zero_grad()
        (policy(state[:, episode])[0].log_prob(action[:, episode]) * valid[:, episode]).sum().backward()
        own = [p.grad for name, p in policy.named_parameters() if not name.startswith("critic")]
        wanted = sum((gradient**2).sum() for gradient in own)
        assert torch.allclose(norms[:, episode], wanted.expand(6), rtol=1e-4)


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="choose total, reward_to_go, n_step, gae"):
        Estimator("all")
    with pytest.raises(UserError, match="choose none, mean, value, optimal"):
        Estimator("total", "best")
    with pytest.raises(UserError, match="built on V"):
        Estimator("gae", "mean")
    with pytest.raises(UserError, match="made for the total return"):
        Estimator("reward_to_go", "optimal")
