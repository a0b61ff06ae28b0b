"""Row 2: V in training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import numpy as np
import torch
from harness import Contest, rate
from inputs import FAST, gemm, synthetic_frames
from torch import nn
from torch.utils.data import DataLoader, Dataset

from worldmodels.envs.make import make_envs, reset_some
from worldmodels.rollouts.replay import Replay
from worldmodels.vision.vae import VAE


class Frames(Dataset):
    """The plain way: an array, one item at a time."""

    def __init__(self, frames: np.ndarray):
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.frames[index]).permute(2, 0, 1).float() / 255


def plain_autoencoder() -> tuple[nn.Sequential, nn.Sequential]:
    """The paper's network of torch's own layers; the encoder's last 64 outputs are mean and log_std."""
    encoder, decoder = [], [nn.Linear(32, 1024), nn.Unflatten(1, (1024, 1, 1))]
    for before, after in ((3, 32), (32, 64), (64, 128), (128, 256)):
        encoder += [nn.Conv2d(before, after, 4, stride=2), nn.ReLU()]
    for before, after, kernel in ((1024, 128, 5), (128, 64, 5), (64, 32, 6)):
        decoder += [nn.ConvTranspose2d(before, after, kernel, stride=2), nn.ReLU()]
    decoder += [nn.ConvTranspose2d(32, 3, 6, stride=2), nn.Sigmoid()]
    return nn.Sequential(*encoder, nn.Flatten(), nn.Linear(1024, 64)), nn.Sequential(*decoder)


def load_ours(vae: VAE, encoder: nn.Sequential, decoder: nn.Sequential) -> None:
    """Our weights into the plain networks."""
    state = vae.encoder.state_dict()
    for name in ("weight", "bias"):
        state[f"9.{name}"] = torch.cat([state.pop(f"mean.{name}"), state.pop(f"log_std.{name}")])
    encoder.load_state_dict({name.removeprefix("body."): value for name, value in state.items()})
    decoder.load_state_dict({name.removeprefix("body."): value for name, value in vae.decoder.state_dict().items()})


def vision() -> Contest:
    frames = synthetic_frames(2000)
    flat = torch.from_numpy(frames)
    nothing = torch.zeros(len(frames))
    replay = Replay(flat, nothing[:, None], nothing, nothing.bool(), [len(frames) - 1])
    generator = torch.Generator().manual_seed(0)
    ours, (encoder, decoder) = VAE("paper"), plain_autoencoder()
    load_ours(ours, encoder, decoder)
    loss = torch.compile(ours.loss)
    our_optimizer = ours.configure_optimizers()
    their_optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=ours.learning_rate)
    last = {}

    def our_step() -> int:
        our_optimizer.zero_grad()
        losses = loss(replay.frames(100, generator))
        losses["loss"].backward()
        our_optimizer.step()
        last["ours"] = losses["loss"]
        return 100

    loader = DataLoader(Frames(frames), batch_size=100, shuffle=True)
    batches = iter(loader)

    def their_step() -> int:
        nonlocal batches
        try:
            x = next(batches)
        except StopIteration:
            batches = iter(loader)
            x = next(batches)
        mean, log_std = encoder(x).chunk(2, 1)
        z = mean + log_std.exp() * torch.randn_like(mean)
        error = ((decoder(z) - x) ** 2).sum((1, 2, 3)).mean()
        kl = (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(1).clamp(min=16).mean()
        their_optimizer.zero_grad()
        (error + kl).backward()
        their_optimizer.step()
        last["theirs"] = error + kl
        return 100

    def after_equal_steps() -> dict[str, list[float]]:
        """Both go on from the same weights for 40 steps; the mean loss of the last 20."""
        load_ours(ours, encoder, decoder)
        for optimizer in (our_optimizer, their_optimizer):
            optimizer.state.clear()
        losses: dict[str, list[float]] = {"ours": [], "theirs": []}
        for side, step in (("ours", our_step), ("theirs", their_step)):
            for _ in range(40):
                step()
                losses[side].append(float(last[side]))
        return {side: [float(np.mean(values[-20:]))] for side, values in losses.items()}

    return Contest(
        "2",
        "V training, paper's network, data included",
        "frames",
        "eager, DataLoader",
        lambda: rate(our_step, 4.0),
        lambda: rate(their_step, 4.0),
        2.0,
        gemm(230e6, 1024, 1024, 1024),
        quality=("loss after the same steps", after_equal_steps),
    )


def driving_frames(steps: int = 400) -> Replay:
    """Real frames of 16 environments under actions that wander."""
    random, frames = np.random.default_rng(0), []
    with closing(make_envs(FAST, 16)) as envs:
        envs.reset(seed=0)
        action = np.zeros((16, 3))
        for step in range(steps):
            action = 0.9 * action + 0.1 * random.uniform([-3, -1, -1.5], [3, 3, 1], (16, 3))
            seen, _, terminated, truncated, _ = envs.step(np.clip(action, [-1, 0, 0], [1, 1, 1]).astype(np.float32))
            frames.append(seen)
            if (terminated | truncated).any():
                reset_some(envs, {int(slot): step * 16 + int(slot) for slot in np.flatnonzero(terminated | truncated)})
    flat = torch.from_numpy(np.concatenate(frames))
    nothing = torch.zeros(len(flat))
    return Replay(flat, nothing[:, None], nothing, nothing.bool(), [len(flat) - 1])


def lean_vision(steps: int = 500) -> Contest:
    """Our default network beside the paper's, both as fast as we can make them."""
    replay = driving_frames()
    # each at the rate that serves it best
    rates = {"lean": 2e-3, "paper": 1e-3}

    def stepper(network: str) -> Callable[[], torch.Tensor]:
        torch.manual_seed(0)
        vae = VAE(network, learning_rate=rates[network])
        optimizer, generator = vae.configure_optimizers(), torch.Generator().manual_seed(0)

        def step() -> torch.Tensor:
            optimizer.zero_grad()
            loss = vae.loss(replay.frames(100, generator))["loss"]  # pyright: ignore[reportArgumentType]
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    def after_equal_steps() -> dict[str, list[float]]:
        """Squared error plus KL above 16 nats, a mean over the last 100 batches."""
        losses = {}
        for side, network in (("ours", "lean"), ("theirs", "paper")):
            step = stepper(network)
            losses[side] = [float(torch.stack([step() for _ in range(steps)][-100:]).mean())]
        return losses

    def frames_of(step: Callable[[], torch.Tensor]) -> Callable[[], float]:
        return lambda: rate(lambda: 100 if step() is not None else 0, 4.0)

    return Contest(
        "2",
        "V training, the lean network",
        "frames",
        "the paper's network, fast too",
        frames_of(stepper("lean")),
        frames_of(stepper("paper")),
        2.0,
        None,
        quality=(f"loss after {steps} steps on driving", after_equal_steps),
    )
