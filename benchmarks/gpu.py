"""Row 8 of `make bench`: what a GPU makes of it. Both sides run on the same one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from harness import Contest, rate
from inputs import BOX, HIDDEN, LATENT, MEMORY_FLOPS, latent_replay, synthetic_frames
from remembering import our_memory_step
from torch import nn

from worldmodels.envs.seeding import environment_seed
from worldmodels.memory.training import Memory
from worldmodels.rollouts.replay import replay_of
from worldmodels.rollouts.store import RolloutStore, sources_of
from worldmodels.rollouts.streaming import open_replay
from worldmodels.types import Episode
from worldmodels.vision.vae import VAE
from worldmodels.worlds.dream_world import DreamWorld, contexts_as_plain, contexts_from_plain

GPU = torch.device("cuda")
STEPS = 32  # of a recorded rollout


def finished(work: Callable[[], int]) -> Callable[[], int]:
    """Wait for what `work` has launched, once for every twenty calls."""

    def whole() -> int:
        done = sum(work() for _ in range(20))
        torch.cuda.synchronize()
        return done

    return whole


def matrix_product(flops_per_sample: float, dtype: torch.dtype) -> Callable[[], tuple[str, float]]:
    """What the GPU's matrix product, at this precision, would allow."""

    def limit() -> tuple[str, float]:
        a, b = (torch.rand(4096, 4096, device=GPU, dtype=dtype) for _ in range(2))

        def product() -> int:
            torch.mm(a, b)
            return 2 * 4096**3

        return f"GEMM {str(dtype).removeprefix('torch.')}", rate(finished(product)) / flops_per_sample

    return limit


def recorded_dream() -> Contest:
    contexts = latent_replay(20, 50).windows(256, 8, torch.Generator().manual_seed(0))
    contexts = contexts_from_plain(contexts_as_plain(contexts), GPU)
    memory = Memory(LATENT, 3, HIDDEN).network.to(GPU)
    with torch.no_grad():
        memory.heads.bias[-1] = -7.0  # as trained ones have it: ends are rare
    policy = nn.Linear(LATENT + HIDDEN, 3, device=GPU)
    worlds = [
        DreamWorld(memory, contexts, BOX, batch=512, horizon=1000, compiles=compiles) for compiles in (True, False)
    ]
    states = [world.reset() for world in worlds]

    @torch.no_grad()
    def act(state: torch.Tensor) -> torch.Tensor:
        return torch.tanh(policy(state))

    def ours() -> int:
        worlds[0].rollout(act, STEPS)
        return 512 * STEPS

    def theirs() -> int:
        for _ in range(STEPS):
            states[1] = worlds[1].step(act(states[1])).state
        return 512 * STEPS

    flops = 2 * ((LATENT + 3 + HIDDEN) * 4 * HIDDEN + HIDDEN * (15 * LATENT + 2) + (LATENT + HIDDEN) * 3)
    return Contest(
        "8",
        f"dream recorded as a CUDA graph, hidden {HIDDEN}, batch 512, policy included",
        "steps",
        "the same step by step",
        lambda: rate(finished(ours)),
        lambda: rate(finished(theirs)),
        5.0,
        matrix_product(flops, torch.float32),
    )


def vision() -> Contest:
    frames = torch.from_numpy(synthetic_frames(2000)).to(GPU)

    def stepper(compiles: bool) -> Callable[[], int]:
        vae = VAE("paper").to(GPU)
        optimizer = vae.configure_optimizers()
        if compiles:
            vae.compile_loss()

        def step() -> int:
            optimizer.zero_grad()
            batch = frames[torch.randint(len(frames), (100,), device=GPU)]
            with torch.autocast("cuda", torch.bfloat16, enabled=compiles):
                losses = vae.losses_of(batch)
            vae.backward(losses["loss"])
            optimizer.step()
            return 100

        return step

    sides = [stepper(True), stepper(False)]
    return Contest(
        "8",
        "V training, paper's network, bf16 recorded",
        "frames",
        "eager fp32",
        lambda: rate(finished(sides[0])),
        lambda: rate(finished(sides[1])),
        0.0,
        matrix_product(230e6, torch.bfloat16),
    )


def memory() -> Contest:
    ours, theirs = our_memory_step(latent_replay(device=GPU)), our_memory_step(latent_replay())
    return Contest(
        "8",
        "M training from latents",
        "steps",
        "the same on this machine's CPU",
        lambda: rate(finished(ours)),
        lambda: rate(theirs),
        0.0,
        matrix_product(MEMORY_FLOPS, torch.float32),
    )


def feeding(device: torch.device = GPU) -> Contest:
    """Frames streamed from a store on disk through two pinned buffers, beside frames that lie on the device."""
    folder = tempfile.TemporaryDirectory()
    environment = {"id": "synthetic", "action": BOX, "observation_shape": [64, 64, 3]}
    store = RolloutStore.create(Path(folder.name) / "store", environment)
    nothing, actions = np.zeros(250, np.float32), np.zeros((250, 3), np.float32)
    for number in range(40):
        seed = environment_seed("train", number)
        store.append(Episode(seed, synthetic_frames(251), actions, nothing, False, True), "none")
    sources = sources_of([store], "train")
    held = replay_of(sources, device)
    streamed = open_replay(sources, device, budget_bytes=64 << 20)
    generator = torch.Generator(device).manual_seed(0)

    def drawing(replay) -> Callable[[], int]:
        def draw() -> int:
            replay.frames(1000, generator)
            return 1000

        return draw

    def run(replay) -> float:
        return rate(finished(drawing(replay)) if device.type == "cuda" else drawing(replay))

    return Contest(
        "8",
        "frames drawn from a store that is streamed from the disk",
        "frames",
        "from a store that fits the device",
        lambda: run(streamed),
        lambda: run(held),
        0.0,
        None,
        lambda: (closing(streamed).__exit__(), folder.cleanup())[0],
    )


GPU_CONTESTS: dict[str, Callable[[], Contest]] = {"8a": recorded_dream, "8b": vision, "8c": memory, "8d": feeding}
