"""Row 4: steps in the dream."""

from __future__ import annotations

import torch
from harness import Contest, rate
from inputs import BOX, LATENT, gemm, latent_replay
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from worldmodels.memory.training import Memory
from worldmodels.worlds.dream_world import DreamWorld


def dream(hidden: int, peer_batch: int, target: float) -> Contest:
    contexts = latent_replay(20, 50).windows(256, 8, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    memory = Memory(LATENT, 3, hidden).network
    with torch.no_grad():
        memory.heads.bias[-1] = -7.0  # as trained ones have it: ends are rare
    ours = DreamWorld(memory, contexts, BOX, batch=512, horizon=1000)
    policy = nn.Linear(LATENT + hidden, 3)
    cell, head = nn.LSTMCell(LATENT + 3, hidden), nn.Linear(hidden, 15 * LATENT + 2)
    state = ours.reset()
    z, h, c = torch.randn(peer_batch, LATENT), torch.zeros(peer_batch, hidden), torch.zeros(peer_batch, hidden)

    def our_step() -> int:
        nonlocal state
        with torch.no_grad():
            state = ours.step(torch.tanh(policy(state))).state
        return 512

    def their_step() -> int:
        nonlocal z, h, c
        with torch.no_grad():
            action = torch.tanh(policy(torch.cat([z, h], 1)))
            h, c = cell(torch.cat([z, action], 1), (h, c))
            out = head(h)
            logits, mean, log_std = out[:, :-2].unflatten(1, (3, LATENT, 5)).unbind(1)
            z = MixtureSameFamily(Categorical(logits=logits), Normal(mean, log_std.exp())).sample()
            torch.bernoulli(torch.sigmoid(out[:, -1]))
        return peer_batch

    flops = 2 * ((LATENT + 3 + hidden) * 4 * hidden + hidden * (15 * LATENT + 2) + (LATENT + hidden) * 3)
    return Contest(
        "4",
        f"dream, hidden {hidden}, batch 512, policy included",
        "steps",
        f"LSTMCell, torch.distributions, batch {peer_batch}",
        lambda: rate(our_step),
        lambda: rate(their_step),
        target,
        gemm(flops, 512, 4 * hidden, LATENT + 3 + hidden),
    )
