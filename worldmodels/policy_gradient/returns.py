"""Returns and advantages as pure functions, time-major [T, B].

An episode ends where it was terminated or truncated. A terminated state is worth nothing; a truncated one goes on in
principle, so the value of its true last state stands in for the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _check(reward: Tensor, *others: Tensor) -> None:
    if reward.ndim != 2 or any(other.shape != reward.shape for other in others):
        raise ValueError(f"expected [T, B] throughout, got {[tuple(t.shape) for t in (reward, *others)]}")


def _worth_of_next(terminated: Tensor, truncated: Tensor, value: Tensor, next_value: Tensor) -> Tensor:
    """V(sₜ₊₁) of the true next state, 0 where the episode was terminated: [T, B]."""
    inside = torch.cat([torch.where(truncated[:-1], next_value[:-1], value[1:]), next_value[-1:]])
    return torch.where(terminated, 0.0, inside)


def bootstrapped_return(
    reward: Tensor, terminated: Tensor, truncated: Tensor, next_value: Tensor, discount: float
) -> Tensor:
    """Gₜ = rₜ + γ Gₜ₊₁ within an episode; at its end, or the rollout's, γ · next_value in place of γ Gₜ₊₁.

    next_value: f32 [T, B], V of the true next state where an episode was truncated or the rollout ends. Zeros give the
    discounted reward-to-go Σ γ^(k−t) rₖ (Sutton & Barto 2018, eq. 3.8).
    """
    _check(reward, terminated, truncated, next_value)
    result = torch.empty_like(reward)
    following = next_value[-1]
    for t in reversed(range(len(reward))):
        following = torch.where(truncated[t], next_value[t], following)
        following = reward[t] + discount * torch.where(terminated[t], 0.0, following)
        result[t] = following
    return result


def total_return(reward: Tensor, terminated: Tensor, truncated: Tensor, next_value: Tensor, discount: float) -> Tensor:
    """R(τ) = Σ γᵏ rₖ of the whole episode, at each of its steps: the estimator without causality.

    next_value as in `bootstrapped_return`: zeros leave an episode that the clock cut short as it is.

    Steps of an episode that the rollout began or ended in the middle of see the part within the rollout.
    """
    to_go = bootstrapped_return(reward, terminated, truncated, next_value, discount)
    result = torch.empty_like(reward)
    total = to_go[0]
    for t in range(len(reward)):
        if t:
            total = torch.where(terminated[t - 1] | truncated[t - 1], to_go[t], total)
        result[t] = total
    return result


def generalized_advantage(
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    value: Tensor,
    next_value: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Aₜ = δₜ + γλ Aₜ₊₁ within an episode, δₜ = rₜ + γ V(sₜ₊₁) − V(sₜ).

    Schulman et al. 2016, arXiv 1506.02438, eq. 16.

    value: V(sₜ) [T, B]; next_value: V of the true next state where an episode was truncated or the rollout ends.
    """
    _check(reward, terminated, truncated, value, next_value)
    delta = reward + discount * _worth_of_next(terminated, truncated, value, next_value) - value
    decay = discount * gae_lambda * (~(terminated | truncated)).to(reward.dtype)
    result = torch.empty_like(reward)
    advantage = torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        advantage = torch.addcmul(delta[t], decay[t], advantage, out=result[t])
    return result


def n_step_return(
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    value: Tensor,
    next_value: Tensor,
    discount: float,
    lookahead: int,
) -> Tensor:
    """Gₜ = rₜ + γ rₜ₊₁ + … + γⁿ V(sₜ₊ₙ), n = `lookahead` or what the episode and the rollout leave of it.

    Sutton & Barto 2018, eq. 7.1. value and next_value as in `generalized_advantage`.
    """
    _check(reward, terminated, truncated, value, next_value)
    worth = _worth_of_next(terminated, truncated, value, next_value)
    goes_on = ~(terminated | truncated)
    goes_on[-1] = False
    result = reward + discount * worth
    for _ in range(lookahead - 1):
        following = torch.cat([result[1:], result[-1:]])
        result = reward + discount * torch.where(goes_on, following, worth)
    return result
