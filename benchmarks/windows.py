"""Row 5: windows drawn from a replay."""

from __future__ import annotations

import torch
from harness import Contest, rate
from inputs import latent_replay, synthetic_frames

from worldmodels.rollouts.replay import Replay


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
