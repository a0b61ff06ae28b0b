"""What multiplies ∇log π: a return, of one kind or another, less a baseline.

∇J = E[Σₜ ∇log π(aₜ|sₜ) Ψₜ] for many Ψ (Schulman et al. 2016, arXiv 1506.02438, eq. 1); they differ in variance, and
some in bias. All are time-major [T, B].
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UserError
from ..types import Trajectory
from .returns import bootstrapped_return, generalized_advantage, n_step_return, total_return

RETURNS = ("total", "reward_to_go", "n_step", "gae")
BASELINES = ("none", "mean", "value", "optimal")


class Estimator:
    """One of RETURNS less one of BASELINES.

    returns: "total" (R(τ) at every step), "reward_to_go", "n_step" (`lookahead` rewards, then V) or "gae" (λ).
    baseline: "none"; "mean" of the batch; "value", a learned V(s), which with "total" is the lecture's variant that
    takes b(sₜ) off the whole return; "optimal", the constant of least variance, see `optimal_baseline`.
    discount γ: 1 gives the undiscounted forms. With "value", V of a truncated episode's last state
    counts as well. Raises UserError for an unknown name, for "n_step" and "gae" without "value", on which they are
    built, and for "optimal" with anything but "total", for which it is the optimum.
    """

    def __init__(
        self,
        returns: str = "reward_to_go",
        baseline: str = "value",
        discount: float = 0.99,
        gae_lambda: float = 0.95,
        lookahead: int = 5,
    ):
        for field, name, known in (("estimator", returns, RETURNS), ("baseline", baseline, BASELINES)):
            if name not in known:
                raise UserError(f"unknown algo.{field} {name!r}; choose {', '.join(known)}")
        if returns in ("n_step", "gae") and baseline != "value":
            raise UserError(f"algo.estimator={returns} is built on V(s); set algo.baseline=value")
        if baseline == "optimal" and returns != "total":
            raise UserError(
                f"algo.baseline=optimal is made for the total return, not {returns}; set algo.estimator=total"
            )
        if lookahead < 1:
            raise UserError(f"algo.lookahead must be at least 1, not {lookahead}")
        self.returns, self.baseline, self.discount = returns, baseline, discount
        self.gae_lambda, self.lookahead = gae_lambda, lookahead

    def __call__(self, trajectory: Trajectory, value: Tensor, score: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Ψ [T, B], and targets of V [T, B].

        value: V(sₜ) [T, B], read by the baseline "value" alone. score: ‖∇log π(τ)‖² of each episode's score, [T, B] and
        the same at all of its steps; the baseline "optimal" needs it.
        """
        reward = trajectory.reward
        ends = (trajectory.terminated, trajectory.truncated)
        next_value = trajectory.next_value if self.baseline == "value" else torch.zeros_like(reward)
        if self.returns == "gae":
            advantage = generalized_advantage(reward, *ends, value, next_value, self.discount, self.gae_lambda)
            return advantage, advantage + value
        if self.returns == "n_step":
            target = n_step_return(reward, *ends, value, next_value, self.discount, self.lookahead)
            return target - value, target
        to_go = bootstrapped_return(reward, *ends, next_value, self.discount)
        found = total_return(reward, *ends, next_value, self.discount) if self.returns == "total" else to_go
        if self.baseline == "value":
            return found - value, to_go
        if self.baseline == "mean":
            return found - found[trajectory.valid].mean(), to_go
        if self.baseline == "optimal":
            if score is None:
                raise ValueError("the optimal baseline needs the norms of the score")
            return found - optimal_baseline(found[0], score[0]), to_go  # once for each episode, however long
        return found, to_go


def optimal_baseline(returns: Tensor, score: Tensor) -> Tensor:
    """b = E[‖∇log π‖² R] / E[‖∇log π‖²], the constant that leaves the least variance: scalar from [N] and [N].

    Weaver & Tao 2001 (UAI); Greensmith et al. 2004 (JMLR 5), for the sum of the gradient's variances.
    """
    return (score * returns).sum() / score.sum()
