import numpy as np
import torch

from worldmodels.envs.seeding import environment_seed
from worldmodels.rollouts.latents import encode_store
from worldmodels.rollouts.store import RolloutStore
from worldmodels.types import Posterior


def test_each_frame_is_encoded_once_for_each_vision(tmp_path, environment, make_episode):
    store = RolloutStore.create(tmp_path / "store", environment)
    for index, length in enumerate((5, 3)):
        store.append(make_episode(environment_seed("train", index), length), "held")
    seen = []

    def encode(frame):
        seen.append(len(frame))
        value = frame.float().mean((1, 2))
        return Posterior(value, -value)

    def latents(vision="v" * 64):
        seen.clear()
        return encode_store(store, encode, vision, tmp_path / "latents", lambda frames: None, batch_size=4)

    first = latents()
    assert sum(seen) == 6 + 4
    assert first["000000"].shape == (6, 2, 3)
    assert np.array_equal(first["000000"][:, 0, 0], np.arange(6)), "means, row for row"
    assert np.array_equal(first["000000"][:, 1, 0], -np.arange(6)), "log_std"
    latents()
    assert not seen, "kept"
    store.append(make_episode(environment_seed("train", 2), 7), "held")
    assert set(latents()) == {"000000", "000001", "000002"} and sum(seen) == 8, "only the new episode"
    latents("w" * 64)
    assert sum(seen) == 18, "another V sees everything itself"


def test_damaged_latents_are_made_again(tmp_path, environment, make_episode):
    store = RolloutStore.create(tmp_path / "store", environment)
    store.append(make_episode(environment_seed("train", 0), 5), "held")

    def latents():
        return encode_store(
            store,
            lambda frame: Posterior(torch.ones(len(frame), 2), torch.zeros(len(frame), 2)),
            "v" * 64,
            tmp_path / "latents",
            lambda frames: None,
        )

    latents()
    path = tmp_path / "latents" / "store" / ("v" * 16) / "000000.npy"
    content = bytearray(path.read_bytes())
    content[-2] ^= 64
    path.write_bytes(content)
    assert (latents()["000000"][:, 0] == 1).all()
