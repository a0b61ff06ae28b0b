"""Against sums written out term by term, O(T²), over random ends of both kinds."""

import pytest
import torch

from worldmodels.policy_gradient.returns import (
    bootstrapped_return,
    generalized_advantage,
    n_step_return,
    total_return,
)

T, B = 12, 30


@pytest.fixture(params=range(5))
def rollout(request):
    generator = torch.Generator().manual_seed(request.param)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    terminated = torch.rand(T, B, generator=generator) < 0.12
    truncated = (torch.rand(T, B, generator=generator) < 0.12) & ~terminated
    reward, value = draw(T, B), draw(T, B)
    last_value = draw(T, B)  # V of each step's true next state, were it needed
    needed = truncated.clone()
    needed[-1] = True
    return reward, terminated, truncated, value, torch.where(needed, last_value, 0.0)


def brute_return(reward, terminated, truncated, next_value, discount, t, b):
    total, weight = 0.0, 1.0
    for k in range(t, T):
        total += weight * reward[k, b]
        weight *= discount
        if terminated[k, b]:
            return total
        if truncated[k, b]:
            break
    return total + weight * next_value[k, b]


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_bootstrapped_returns(rollout, discount):
    reward, terminated, truncated, _, next_value = rollout
    ours = bootstrapped_return(reward, terminated, truncated, next_value, discount)
    for t in range(T):
        for b in range(B):
            assert ours[t, b] == pytest.approx(
                float(brute_return(reward, terminated, truncated, next_value, discount, t, b)), abs=1e-10
            )


def test_reward_to_go_needs_no_values(rollout):
    reward, terminated, truncated, _, _ = rollout
    zeros = torch.zeros_like(reward)
    ours = bootstrapped_return(reward, terminated, truncated, zeros, 1.0)
    ended = terminated | truncated
    for b in range(B):
        for t in range(T):
            last = next((k for k in range(t, T) if ended[k, b]), T - 1)
            assert ours[t, b] == pytest.approx(float(reward[t : last + 1, b].sum()), abs=1e-10)


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_total_returns(rollout, discount):
    reward, terminated, truncated, _, next_value = rollout
    ours = total_return(reward, terminated, truncated, next_value, discount)
    ended = terminated | truncated
    for b in range(B):
        start = 0
        for t in range(T):
            if ended[t, b] or t == T - 1:
                expected = sum(discount**k * reward[start + k, b] for k in range(t - start + 1))
                expected += 0 if terminated[t, b] else discount ** (t - start + 1) * next_value[t, b]
                assert torch.allclose(ours[start : t + 1, b], torch.as_tensor(expected).expand(t - start + 1))
                start = t + 1


@pytest.mark.parametrize("discount, gae_lambda", [(0.99, 0.95), (0.9, 0.0), (1.0, 1.0)])
def test_generalized_advantage(rollout, discount, gae_lambda):
    """A = (1 − λ) Σ λ^(n−1) (n-step return) − V, the definition rather than the recursion."""
    reward, terminated, truncated, value, next_value = rollout
    ours = generalized_advantage(reward, terminated, truncated, value, next_value, discount, gae_lambda)
    for b in range(B):
        for t in range(T):
            deltas, k = [], t
            while True:
                stop = bool(terminated[k, b] or truncated[k, b] or k == T - 1)
                following = 0.0 if terminated[k, b] else (next_value[k, b] if stop else value[k + 1, b])
                deltas.append(reward[k, b] + discount * following - value[k, b])
                if stop:
                    break
                k += 1
            expected = sum((discount * gae_lambda) ** n * delta for n, delta in enumerate(deltas))
            assert ours[t, b] == pytest.approx(float(expected), abs=1e-10)


def test_lambda_one_is_the_bootstrapped_return_less_the_value(rollout):
    reward, terminated, truncated, value, next_value = rollout
    advantage = generalized_advantage(reward, terminated, truncated, value, next_value, 0.97, 1.0)
    returns = bootstrapped_return(reward, terminated, truncated, next_value, 0.97)
    assert torch.allclose(advantage, returns - value, atol=1e-12)


def test_shapes_are_checked_at_the_door():
    with pytest.raises(ValueError, match=r"\[T, B\]"):
        total_return(torch.zeros(3), torch.zeros(3).bool(), torch.zeros(3).bool(), torch.zeros(3), 1.0)


@pytest.mark.parametrize("lookahead", [1, 2, 5, 30])
def test_n_step_returns(rollout, lookahead):
    reward, terminated, truncated, value, next_value = rollout
    found = n_step_return(reward, terminated, truncated, value, next_value, 0.9, lookahead)
    for t in range(T):
        for b in range(B):
            total, weight = 0.0, 1.0
            for k in range(t, min(t + lookahead, T)):
                total += weight * reward[k, b]
                weight *= 0.9
                if terminated[k, b]:
                    weight = 0.0
                if terminated[k, b] or truncated[k, b]:
                    break
            worth = next_value[k, b] if truncated[k, b] or k == T - 1 else value[k + 1, b]
            assert found[t, b].item() == pytest.approx((total + weight * worth).item(), abs=1e-10)
