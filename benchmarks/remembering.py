"""Rows 3 and 7: M in training, and what Lightning costs it."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable

import lightning
import torch
from harness import Contest, rate
from inputs import BATCH, HIDDEN, LATENT, LENGTH, MEMORY_FLOPS, gemm, latent_replay
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.utils.data import DataLoader, Dataset

from worldmodels.memory.training import Memory
from worldmodels.rollouts.datamodule import ReplayData
from worldmodels.rollouts.replay import Replay
from worldmodels.stages.training import ShowProgress
from worldmodels.tracking import Progress
from worldmodels.types import Posterior


class Windows(Dataset):
    """The plain way: slices of each episode, one window at a time."""

    def __init__(self, replay: Replay, steps: int):
        self.replay, self.steps = replay, steps

    def __len__(self) -> int:
        return len(self.replay.lengths) * (self.steps - LENGTH)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        episode, start = divmod(index, self.steps - LENGTH)
        row = episode * (self.steps + 1) + start
        rows = slice(row, row + LENGTH)
        posterior: Posterior = self.replay.observation  # pyright: ignore[reportAssignmentType]
        ahead = slice(row, row + LENGTH + 1)
        mean, log_std = posterior.mean[ahead], posterior.log_std[ahead]
        return mean, log_std, self.replay.action[rows], self.replay.reward[rows], self.replay.terminated[rows]


class PlainMemory(nn.Module):
    """nn.LSTM with torch.distributions."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(LATENT + 3, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 3 * 5 * LATENT + 2)

    def loss(self, mean, log_std, action, reward, terminated) -> torch.Tensor:
        z = mean + log_std.exp() * torch.randn_like(mean)
        out = self.head(self.lstm(torch.cat([z[:, :-1], action], -1))[0])
        logits, mu, sigma = out[..., :-2].unflatten(-1, (3, LATENT, 5)).unbind(-3)
        mixture = MixtureSameFamily(Categorical(logits=logits), Normal(mu, sigma.exp()))
        end = nn.functional.binary_cross_entropy_with_logits(out[..., -1], terminated.float())
        return -mixture.log_prob(z[:, 1:]).mean() + ((out[..., -2] - reward) ** 2).mean() + end


def our_memory_step(replay: Replay) -> Callable[[], int]:
    memory = Memory(LATENT, 3, HIDDEN).to(replay.device)
    optimizer = memory.configure_optimizers()
    generator = torch.Generator(replay.device).manual_seed(0)

    def step() -> int:
        optimizer.zero_grad()
        memory.loss(replay.windows(BATCH, LENGTH, generator))["loss"].backward()
        nn.utils.clip_grad_value_(memory.parameters(), 1.0)
        optimizer.step()
        return BATCH * LENGTH

    return step


def memory() -> Contest:
    replay = latent_replay()
    ours = our_memory_step(replay)
    plain = PlainMemory()
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    loader = DataLoader(Windows(replay, 500), batch_size=BATCH, shuffle=True)
    batches = iter(loader)

    def theirs() -> int:
        nonlocal batches
        optimizer.zero_grad()
        plain.loss(*next(batches)).backward()
        nn.utils.clip_grad_value_(plain.parameters(), 1.0)
        optimizer.step()
        return BATCH * LENGTH

    return Contest(
        "3",
        "M training from latents, data included",
        "steps",
        "nn.LSTM, torch.distributions, DataLoader",
        lambda: rate(ours, 3.0),
        lambda: rate(theirs, 3.0),
        1.5,
        gemm(MEMORY_FLOPS, 1024, 1024, 1024),
    )


class Clock(lightning.Callback):
    """The time between the end of the first training batch and the end of the last."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_) -> None:
        self.ends.append(time.perf_counter())


def lightning_overhead() -> Contest:
    """The same M step through the Trainer and through a bare loop."""
    replay = latent_replay()
    bare = our_memory_step(replay)
    count = 40

    def ours() -> float:
        module, clock = Memory(LATENT, 3, HIDDEN), Clock()

        def draw(generator: torch.Generator):
            return replay.windows(BATCH, LENGTH, generator)

        data = ReplayData(draw, draw, count, 1, 0, torch.device("cpu"))
        with contextlib.redirect_stdout(io.StringIO()), Progress("M", count, "updates") as progress:
            trainer = lightning.Trainer(
                accelerator="cpu",
                max_epochs=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                limit_val_batches=0,
                gradient_clip_val=1.0,
                gradient_clip_algorithm="value",
                callbacks=[ShowProgress(progress, "train/nll"), clock],
            )
            trainer.fit(module, data)
        return BATCH * LENGTH * (count - 1) / (clock.ends[-1] - clock.ends[0])

    return Contest("7", "Lightning's M step", "steps", "bare loop", ours, lambda: rate(bare, 2.0), 1 / 1.05)
