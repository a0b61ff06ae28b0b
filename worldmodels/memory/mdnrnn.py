"""M's network: an LSTM over (z, action) whose output parametrises the next z, the reward and the end."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from ..types import MemoryState, Mixture, Prediction


class MDNRNN(nn.Module):
    """One set of weights, two speeds: `forward` takes whole windows, `step` a single step.

    Ha & Schmidhuber 2018, arXiv 1803.10122, appendix A.2. torch's LSTM carries a second bias that is redundant; it is
    fixed at zero, so that the trainable parameters of LSTM and mixture are the paper's 422,368. Reward and termination
    come on top (hidden_dim + 1 each).

    restart_input: the LSTM also sees whether the episode has just begun (the paper's TakeCover model).
    """

    def __init__(
        self, latent_dim: int, action_dim: int, hidden_dim: int = 256, mixtures: int = 5, restart_input: bool = False
    ):
        super().__init__()
        self.latent_dim, self.action_dim, self.hidden_dim = latent_dim, action_dim, hidden_dim
        self.mixtures, self.restart_input = mixtures, restart_input
        self.lstm = nn.LSTM(latent_dim + action_dim + int(restart_input), hidden_dim)
        nn.init.zeros_(self.lstm.get_parameter("bias_hh_l0")).requires_grad_(False)
        # rows: the mixture as (part, k, z), so that what is summed over k lies apart; the reward; the end
        self.heads = nn.Linear(hidden_dim, 3 * mixtures * latent_dim + 2)

    def initial_state(self, batch: int) -> MemoryState:
        """Zeros [B, H]: nothing seen yet."""
        zeros = self.heads.weight.new_zeros(batch, self.hidden_dim)
        return MemoryState(zeros, zeros)

    def forward(
        self, z: Tensor, action: Tensor, first: Tensor, state: MemoryState | None = None
    ) -> tuple[Prediction, MemoryState]:
        """z [L, B, Z], action [L, B, A], first bool [L, B] to Prediction [L, B, …] and the state after step L."""
        state = self.initial_state(z.shape[1]) if state is None else state
        output, (h, c) = self.lstm(self._input(z, action, first), (state.h[None], state.c[None]))
        return self.predict(output), MemoryState(h[0], c[0])

    def step(self, z: Tensor, action: Tensor, first: Tensor, state: MemoryState) -> MemoryState:
        """z [B, Z], action [B, A], first bool [B] to the next state, whose h `predict` takes."""
        weights: list[Tensor] = self.lstm._flat_weights  # pyright: ignore[reportAssignmentType]
        h, c = torch.lstm_cell(self._input(z, action, first), state, *weights)
        return MemoryState(h, c)

    def predict(self, h: Tensor) -> Prediction:
        """h [..., H] to what comes next [..., …]."""
        size = self.mixtures * self.latent_dim
        *parts, reward, terminated = self.heads(h).split([size, size, size, 1, 1], -1)
        mixture = Mixture(*(rearrange(part, "... (k z) -> ... z k", k=self.mixtures) for part in parts))
        return Prediction(mixture, reward.squeeze(-1), terminated.squeeze(-1))

    def _input(self, z: Tensor, action: Tensor, first: Tensor) -> Tensor:
        parts = [z, action, first.unsqueeze(-1).to(z.dtype)] if self.restart_input else [z, action]
        return torch.cat(parts, -1)
