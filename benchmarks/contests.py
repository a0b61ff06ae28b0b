"""The contests of `make bench`: what we do, beside what a user would pick instead."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import lightning
import numpy as np
import torch
from harness import Contest, rate
from learners import a2c, dqn
from settings import FAST, STOCK
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.utils.data import DataLoader, Dataset

import worldmodels  # noqa: F401  registers worldmodels/CarRacing-v3
from worldmodels.envs.make import closing, make_env, make_envs, reset_some
from worldmodels.memory.training import Memory
from worldmodels.rollouts.datamodule import ReplayData
from worldmodels.rollouts.replay import Replay
from worldmodels.stages.training import ShowProgress
from worldmodels.tracking import Progress
from worldmodels.types import Posterior
from worldmodels.vision.vae import VAE
from worldmodels.worlds.dream_world import DreamWorld

warnings.filterwarnings("ignore")

BOX = {"type": "box", "low": [-1.0, 0.0, 0.0], "high": [1.0, 1.0, 1.0]}
LENGTH, BATCH, LATENT, HIDDEN = 32, 64, 32, 256
# forward and backward of the LSTM's and the heads' products, for one step of M
MEMORY_FLOPS = 3 * 2 * ((LATENT + 3 + HIDDEN) * 4 * HIDDEN + HIDDEN * (15 * LATENT + 2))


def gemm(flops_per_sample: float, m: int, n: int, k: int) -> Callable[[], tuple[str, float]]:
    """What the machine's matrix product of this shape, fp32, would allow."""

    def limit() -> tuple[str, float]:
        a, b = torch.rand(m, k), torch.rand(k, n)

        def product() -> int:
            torch.mm(a, b)
            return 2 * m * n * k

        return "GEMM", rate(product, 1.0) / flops_per_sample

    return limit


# 1: CarRacing


def play_ours(envs: gymnasium.vector.VectorEnv, random: np.random.Generator) -> int:
    actions = random.uniform([-1, 0, 0], [1, 1, 0.2], (envs.num_envs, 3)).astype(np.float32)
    _, _, terminated, truncated, _ = envs.step(actions)
    ended = np.flatnonzero(terminated | truncated)
    if len(ended):
        reset_some(envs, {int(slot): int(random.integers(2**30)) for slot in ended})
    return envs.num_envs


def play_theirs(envs: Any, count: int, random: np.random.Generator) -> int:
    envs.step(random.uniform([-1, 0, 0], [1, 1, 0.2], (count, 3)).astype(np.float32))
    return count


def physics_limit() -> tuple[str, float]:
    """Stock physics without drawing, one process, times the cores."""
    from worldmodels.envs.workers import default_workers

    env = gymnasium.make("CarRacing-v3", disable_env_checker=True)
    env.reset(seed=0)
    frame = np.zeros((96, 96, 3), np.uint8)
    env.unwrapped._render = lambda mode: frame  # pyright: ignore[reportAttributeAccessIssue]
    action = np.array([0.1, 0.3, 0.0], np.float32)

    def step() -> int:
        if env.step(action)[2]:
            env.reset()
        return 1

    return "physics alone", rate(step, 2.0) * default_workers()


def car_racing(peer: str, target: float) -> Contest:
    random = np.random.default_rng(0)
    ours = make_envs(FAST, 32)
    ours.reset(seed=0)
    theirs: Any
    count = 8 if peer == "envpool" else 2
    if peer == "envpool":
        import envpool

        theirs = envpool.make_gymnasium("CarRacing-v3", num_envs=count, num_threads=2)
        theirs.reset()
    else:
        theirs = gymnasium.vector.AsyncVectorEnv([partial(make_env, STOCK)] * count, shared_memory=True)
        theirs.reset(seed=0)
    for _ in range(60):  # past the zoom of the first second
        play_ours(ours, random)
        play_theirs(theirs, count, random)
    return Contest(
        "1",
        "CarRacing, 64×64 frames delivered, resets included",
        "frames",
        peer,
        lambda: rate(lambda: play_ours(ours, random), 4.0),
        lambda: rate(lambda: play_theirs(theirs, count, random), 4.0),
        target,
        physics_limit,
        lambda: (ours.close(), theirs.close())[0],
    )


# 2: V


class Frames(Dataset):
    """The plain way: an array, one item at a time."""

    def __init__(self, frames: np.ndarray):
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.frames[index]).permute(2, 0, 1).float() / 255


def synthetic_frames(count: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


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


# 3, 5, 7: M and its windows


def latent_replay(episodes: int = 100, steps: int = 500, device: torch.device | str = "cpu") -> Replay:
    rows = episodes * (steps + 1)
    generator = torch.Generator().manual_seed(0)
    mean, action = torch.randn(rows, LATENT, generator=generator), torch.randn(rows, 3, generator=generator)
    posterior = Posterior(mean.to(device), torch.full((rows, LATENT), -2.0, device=device))
    zeros = torch.zeros(rows, device=device)
    return Replay(posterior, action.to(device), zeros, zeros.bool(), [steps] * episodes)


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


def sampling(kind: str, peer: str, target: float) -> Contest:
    frames = kind == "frames"
    if frames:
        count, steps = 40, 250
        flat = torch.from_numpy(synthetic_frames(count * (steps + 1)))
        zeros = torch.zeros(len(flat))
        replay = Replay(flat, torch.zeros(len(flat), 3), zeros, zeros.bool(), [steps] * count)
    else:
        replay = latent_replay()
        count, steps = 100, 500
    generator = torch.Generator().manual_seed(0)
    batch = 32

    def ours() -> int:
        replay.windows(batch, 32, generator)
        return 1

    if peer == "torchrl":
        from tensordict import TensorDict
        from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer

        sampler = SliceSampler(slice_len=33, traj_key="episode", cache_values=True)
        buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(len(replay)), sampler=sampler, batch_size=batch * 33, compilable=False
        )
        seen = {"observation": replay.observation} if frames else replay.observation._asdict()  # pyright: ignore
        content = {**seen, "action": replay.action, "reward": replay.reward, "terminated": replay.terminated}
        episode = torch.arange(count).repeat_interleave(steps + 1)
        buffer.extend(TensorDict({**content, "episode": episode}, batch_size=[len(replay)]))

        def theirs() -> int:
            buffer.sample()
            return 1
    else:
        starts = torch.cat([torch.arange(steps - 31) + e * (steps + 1) for e in range(count)])
        window = torch.arange(33)[:, None]
        observation = replay.observation
        parts = [observation] if frames else list(observation)
        parts += [replay.action, replay.reward, replay.terminated]

        def theirs() -> int:
            rows = starts[torch.randint(len(starts), (batch,), generator=generator)] + window
            for part in parts:
                part[rows]  # pyright: ignore[reportArgumentType]
            return 1

    return Contest("5", f"windows of {kind}, 32×32", "batches", peer, lambda: rate(ours), lambda: rate(theirs), target)


# 4: dreams


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


CONTESTS: dict[str, Callable[[], Contest]] = {
    "1a": partial(car_racing, "AsyncVectorEnv, stock", 20),
    "1b": partial(car_racing, "envpool", 3),
    "2a": vision,
    "2b": lean_vision,
    "3": memory,
    "4a": partial(dream, 256, 512, 2.5),
    "4b": partial(dream, 512, 512, 2.5),
    "4c": partial(dream, 256, 1, 40),
    "5a": partial(sampling, "latents", "torchrl", 6),
    "5b": partial(sampling, "latents", "index arithmetic", 1.2),
    "5c": partial(sampling, "frames", "torchrl", 6),
    "5d": partial(sampling, "frames", "index arithmetic", 1.2),
    "6a": partial(a2c, "CartPole-v1", 3),
    "6b": partial(a2c, "CarRacing-v3", 8),
    "6c": partial(a2c, "LunarLander-v3", 3),
    "6d": partial(dqn, "CartPole-v1", 3),
    "6e": partial(dqn, "LunarLander-v3", 3),
    "7": lightning_overhead,
}
