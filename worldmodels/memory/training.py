"""Training M on windows of latents."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import UserError
from ..module import Supervised
from ..types import Posterior, Window
from . import mixture
from .mdnrnn import MDNRNN


def smoothed(reward: Tensor, valid: Tensor, passes: int) -> Tensor:
    """Rewards [L, B] spread over `passes` steps before and behind, with the binomial weights of 2 · `passes`; nothing
    leaves a window's valid steps, at whose edges it is turned back.

    In which of two steps a reward falls is often past foreseeing, and M learns it by heart (Lee et al. 2023,
    DreamSmooth, arXiv 2311.01450).
    """
    share = (valid[1:] & valid[:-1]).to(reward.dtype) / 4
    for _ in range(passes):
        back = share * (reward[1:] - reward[:-1])
        reward = reward + functional.pad(back, (0, 0, 0, 1)) - functional.pad(back, (0, 0, 1, 0))
    return reward


class Memory(Supervised):
    """Loss = −log p(zₜ₊₁ | zₜ, aₜ, hₜ) per dimension + reward_weight · (r̂ − r)² + terminated_weight · cross-entropy.

    Each a mean over the valid steps. z is drawn anew from V's posterior at each batch, which keeps M from fitting one
    draw (arXiv 1803.10122, appendix A.2).

    latent_noise: the share of the posterior's deviation that z is drawn with. At 1, the paper's, the dream wavers by
    V's doubt as well, which C never meets outside: there z is the mean. reward_smoothing: of the rewards to be
    predicted, see `smoothed`. Raises UserError where one of these is negative or no number.
    """

    kind = "memory"

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        hidden_dim: int = 256,
        mixtures: int = 5,
        restart_input: bool = False,
        reward_weight: float = 1.0,
        terminated_weight: float = 1.0,
        learning_rate: float = 1e-3,
        anneal: bool = False,
        latent_noise: float = 1.0,
        reward_smoothing: int = 0,
    ):
        if not isinstance(latent_noise, int | float) or not 0 <= latent_noise < math.inf:
            raise UserError(f"latent_noise must be a number from 0 on, not {latent_noise!r}; 1 is V's own")
        if not isinstance(reward_smoothing, int) or reward_smoothing < 0:
            raise UserError(
                f"reward_smoothing must be a whole number from 0 on, not {reward_smoothing!r}; 0 leaves rewards alone"
            )
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate, self.anneal, self.latent_noise = learning_rate, anneal, latent_noise
        self.reward_weight, self.terminated_weight = reward_weight, terminated_weight
        self.reward_smoothing = reward_smoothing
        self.network = MDNRNN(latent_dim, action_dim, hidden_dim, mixtures, restart_input)

    def loss(self, window: Window) -> dict[str, Tensor]:
        """`loss` and its parts: `nll` in nats per latent dimension, `reward_error` squared, of the smoothed rewards,
        `terminated` in nats."""
        posterior: Posterior = window.observation.narrowed(self.latent_noise)
        z = torch.addcmul(posterior.mean, posterior.log_std.exp(), torch.randn_like(posterior.mean))
        prediction, _ = self.network(z[:-1], window.action, window.first)
        nll = -mixture.log_prob(prediction.next_z, z[1:]).mean(-1)
        reward = smoothed(window.reward, window.valid, self.reward_smoothing)
        reward_error = (prediction.reward - reward).square()
        terminated = functional.binary_cross_entropy_with_logits(
            prediction.terminated_logit, window.terminated.float(), reduction="none"
        )
        weight = window.valid.float() / window.valid.sum().clamp(min=1)
        parts = {
            "nll": (nll * weight).sum(),
            "reward_error": (reward_error * weight).sum(),
            "terminated": (terminated * weight).sum(),
        }
        total = parts["nll"] + self.reward_weight * parts["reward_error"] + self.terminated_weight * parts["terminated"]
        return {"loss": total, **parts}
