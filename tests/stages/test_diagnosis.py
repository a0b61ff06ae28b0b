"""Diagnoses of made-up models whose errors are known by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from worldmodels.rollouts.replay import Replay
from worldmodels.stages.diagnosis import ends_left_alone, explained, left_alone, one_step_ahead
from worldmodels.types import MemoryState, Mixture, Posterior, Prediction, Window

LENGTH, BATCH = 8, 64


class Counting:
    """M of a world in which z grows by 1 a step: it is sure of z + 1, of a reward of 2 and of an end by one half."""

    def initial_state(self, batch):
        return MemoryState(torch.zeros(batch, 1), torch.zeros(batch, 1))

    def step(self, z, action, first, state):
        return MemoryState(z, z)

    def predict(self, h):
        mean = (h + 1).unsqueeze(-1)
        mixture = Mixture(torch.zeros_like(mean), mean, torch.full_like(mean, math.log(1e-4)))
        return Prediction(mixture, torch.full(h.shape[:-1], 2.0), torch.zeros(h.shape[:-1]))

    def __call__(self, z, action, first):
        return self.predict(z), None


class Seeing:
    """V whose z is the frame's grey value over 10, give or take `doubt`; it shows z as that grey value."""

    def __init__(self, doubt=0.0):
        self.doubt = doubt

    def encode(self, frame):
        z = frame[:, 0, 0, :1].float() / 10
        return Posterior(z, torch.full_like(z, self.doubt).log())

    def decode(self, z):
        return (z * 10).round().to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 2, 2, 3)


MODELS = SimpleNamespace(vision=Seeing(), memory=SimpleNamespace(network=Counting(), latent_noise=1.0))


def window_of(growth, reward=2.0, ends_at=None):
    """`BATCH` episodes whose z grows by `growth` a step; from `ends_at` on nothing is valid."""
    t = torch.arange(LENGTH + 1)
    frames = (10 * growth * t).to(torch.uint8).reshape(-1, 1, 1, 1, 1).expand(-1, BATCH, 2, 2, 3)
    flags = torch.zeros(LENGTH, BATCH, dtype=torch.bool)
    terminated, valid = flags.clone(), ~flags
    if ends_at is not None:
        terminated[ends_at - 1], valid[ends_at:] = True, False
    return Window(frames, torch.zeros(LENGTH, BATCH, 1), torch.full((LENGTH, BATCH), reward), terminated, flags, valid)


@pytest.mark.parametrize(("doubt", "share"), [(0.0, 1.0), (3.0, 0.0)])
def test_a_true_model_left_alone_makes_no_error(doubt, share):
    models = SimpleNamespace(vision=Seeing(doubt), memory=SimpleNamespace(network=Counting(), latent_noise=share))
    found = left_alone(models, window_of(1), context=3, temperature=1.0)
    assert found["windows"] == [BATCH] * 5
    for name in ("reward_error", "return_error", "pixel_error", "pixel_error_of_reconstruction"):
        assert found[name] == pytest.approx([0] * 5, abs=1e-9)
    # the last real frame stays behind by 10 grey values a step
    assert found["pixel_error_of_last_frame"] == pytest.approx([(10 * k / 255) ** 2 for k in range(1, 6)])


def test_errors_of_a_wrong_model_add_up_and_stop_with_the_episode():
    found = left_alone(MODELS, window_of(2, reward=1.5, ends_at=6), context=3, temperature=1.0)
    assert found["windows"] == [BATCH] * 3, "the episode has three more steps"
    assert found["reward_error"] == pytest.approx([0.25] * 3)
    assert found["return_error"] == pytest.approx([(0.5 * k) ** 2 for k in (1, 2, 3)])
    assert found["pixel_error"] == pytest.approx([(10 * k / 255) ** 2 for k in (1, 2, 3)])


def test_ends_beside_a_model_that_expects_one_by_one_half_each_step():
    found = ends_left_alone(MODELS, window_of(1), context=3, temperature=1.0)
    assert found["ended"] == [0] * 5 and found["end_chance"] == [0.5] * 5
    assert found["ended_error"] == pytest.approx([(1 - 0.5**k) ** 2 for k in range(1, 6)])
    found = ends_left_alone(MODELS, window_of(1, ends_at=6), context=3, temperature=1.0)
    assert found["end_chance"] == [0.5] * 3
    assert found["ended"] == [0, 0, 1] and found["ended_error"][-1] == pytest.approx(0.125**2)


def test_ends_are_as_frequent_as_they_are():
    """Of a world that ends by one quarter each step, one quarter of those that are left end at each; windows that must
    fit into their episode have ends in their last step alone."""
    lengths = torch.from_numpy(np.random.default_rng(0).geometric(0.25, 50_000))
    rows = int((lengths + 1).sum())
    frames, nothing = torch.zeros(rows, 1, 1, 3, dtype=torch.uint8), torch.zeros(rows)
    terminated = nothing.bool()
    terminated[torch.cumsum(lengths + 1, 0) - 2] = True
    replay = Replay(frames, nothing[:, None], nothing, terminated, lengths.tolist())
    generator = torch.Generator().manual_seed(0)
    found = ends_left_alone(MODELS, replay.windows(50_000, 7, generator, inside=3), context=2, temperature=1.0)
    assert found["ended"] == pytest.approx([0.25] * 5, abs=0.02)
    fitting = replay.windows(50_000, 7, generator)
    fitting = Window(*(each[:, fitting.valid.all(0)] for each in fitting))
    found = ends_left_alone(MODELS, fitting, context=2, temperature=1.0)
    assert found["ended"][:4] == [0] * 4 and found["ended"][4] > 0.2


def test_nats_beside_simpler_forecasts():
    """z grows by 1 or by 2, half of the episodes each; the training steps too. "As before" has deviation √2.5."""
    slow, fast = window_of(1), window_of(2)
    half = BATCH // 2
    frames = torch.cat([slow.observation[:, :half], fast.observation[:, half:]], 1)
    mixed = slow._replace(observation=frames)
    nll = one_step_ahead(MODELS, mixed, mixed)[0]["nll"]
    variance = 2.5
    assert nll["as_before"] == pytest.approx(0.5 * (1 + math.log(2 * math.pi * variance)), rel=1e-5)
    assert nll["mixture"] == pytest.approx(nll["one_gaussian"]) and nll["mixture"] > 1e6, "sure, and wrong by half"
    sure, _ = one_step_ahead(MODELS, slow, slow)
    assert sure["nll"]["mixture"] == pytest.approx(math.log(1e-4) + 0.5 * math.log(2 * math.pi), abs=1e-3)
    assert sure["calibration"]["n"] == LENGTH * BATCH and not sure["calibration"]["calibrated"], "always the median"


def test_rewards_predicted_and_real():
    """M says 2 whatever comes: of rewards 1.5 alone it explains nothing, of 1, 2, 3 the mean and no more."""
    found, (predicted, real) = one_step_ahead(MODELS, window_of(1, reward=1.5, ends_at=6), window_of(1))
    assert predicted.tolist() == [2.0] * (6 * BATCH) and set(real.tolist()) == {1.5}
    assert found["reward_explained"] == 0
    three = np.array([1.0, 2.0, 3.0])
    assert explained(np.full(3, 2.0), three) == pytest.approx(0)
    assert explained(three, three) == 1
    assert explained(np.array([1.5, 2.0, 2.5]), three) == pytest.approx(0.75)
    assert explained(-three, three) < -10
