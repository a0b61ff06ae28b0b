import math

import pytest
import torch

from worldmodels.errors import UserError
from worldmodels.memory.mdnrnn import MDNRNN
from worldmodels.memory.mixture import log_prob
from worldmodels.memory.training import Memory, smoothed
from worldmodels.types import MemoryState, Mixture, Posterior, Window


@pytest.fixture
def window():
    generator = torch.Generator().manual_seed(0)
    length, batch = 6, 4
    valid = torch.ones(length, batch, dtype=torch.bool)
    valid[3:, 1] = False
    return Window(
        Posterior(torch.randn(length + 1, batch, 3, generator=generator), torch.full((length + 1, batch, 3), -30.0)),
        torch.randn(length, batch, 2, generator=generator),
        torch.randn(length, batch, generator=generator),
        torch.rand(length, batch, generator=generator) < 0.2,
        torch.arange(length)[:, None].expand(length, batch) == 0,
        valid,
    )


@pytest.mark.parametrize("restart_input", [False, True])
def test_one_network_two_speeds(window, restart_input):
    torch.manual_seed(0)
    network = MDNRNN(3, 2, hidden_dim=16, restart_input=restart_input)
    z = window.observation.mean[:-1]
    whole, end = network(z, window.action, window.first)
    state = network.initial_state(4)
    for t in range(6):
        state = network.step(z[t], window.action[t], window.first[t], state)
        single = network.predict(state.h)
        assert torch.allclose(single.reward, whole.reward[t], atol=1e-6)
        assert torch.allclose(single.terminated_logit, whole.terminated_logit[t], atol=1e-6)
        for one, many in zip(single.next_z, whole.next_z):
            assert torch.allclose(one, many[t], atol=1e-6)
    assert torch.allclose(state.h, end.h, atol=1e-6) and torch.allclose(state.c, end.c, atol=1e-6)


def test_the_past_is_summed_up_in_the_state(window):
    network = MDNRNN(3, 2, hidden_dim=16)
    z = window.observation.mean[:-1]
    whole, _ = network(z, window.action, window.first)
    _, middle = network(z[:4], window.action[:4], window.first[:4])
    rest, _ = network(z[4:], window.action[4:], window.first[4:], middle)
    assert torch.allclose(rest.reward, whole.reward[4:], atol=1e-6)
    forgotten, _ = network(z[4:], window.action[4:], window.first[4:])
    assert not torch.allclose(forgotten.reward, whole.reward[4:], atol=1e-3)


def test_the_lstm_by_its_equations():
    network = MDNRNN(1, 1, hidden_dim=2).double()
    z, action = torch.tensor([[0.3]]).double(), torch.tensor([[-0.7]]).double()
    h, c = torch.tensor([[0.1, -0.2]]).double(), torch.tensor([[0.5, 0.4]]).double()
    lstm = network.lstm
    gates = torch.cat([z, action], -1) @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + h @ lstm.weight_hh_l0.T
    i, f, g, o = gates.chunk(4, -1)
    c_next = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h_next = o.sigmoid() * c_next.tanh()
    ours = network.step(z, action, torch.zeros(1, dtype=torch.bool), MemoryState(h, c))
    assert torch.allclose(ours.h, h_next, atol=1e-12) and torch.allclose(ours.c, c_next, atol=1e-12)


def test_loss_counts_valid_steps_only_and_predicts_the_next_z(window):
    torch.manual_seed(0)
    memory = Memory(3, 2, hidden_dim=8, reward_weight=2.0, terminated_weight=3.0)
    losses = memory.loss(window)
    z = window.observation.mean  # log_std −30: the draw is the mean
    prediction, _ = memory.network(z[:-1], window.action, window.first)
    nll = reward_error = terminated = 0.0
    steps = [(t, b) for t in range(6) for b in range(4) if window.valid[t, b]]
    for t, b in steps:
        mixture = Mixture(*(part[t, b] for part in prediction.next_z))
        nll -= log_prob(mixture, z[t + 1, b]).mean().item()
        reward_error += (prediction.reward[t, b] - window.reward[t, b]).item() ** 2
        p = prediction.terminated_logit[t, b].sigmoid()
        terminated -= (p if window.terminated[t, b] else 1 - p).log().item()
    n = len(steps)
    assert n == 21
    assert losses["nll"].item() == pytest.approx(nll / n, rel=1e-5)
    assert losses["reward_error"].item() == pytest.approx(reward_error / n, rel=1e-5)
    assert losses["terminated"].item() == pytest.approx(terminated / n, rel=1e-5)
    assert losses["loss"].item() == pytest.approx((nll + 2 * reward_error + 3 * terminated) / n, rel=1e-5)


def test_z_is_drawn_anew_for_each_batch(window):
    wide = window._replace(observation=window.observation._replace(log_std=torch.zeros(7, 4, 3)))
    memory = Memory(3, 2, hidden_dim=8)
    assert memory.loss(wide)["nll"].item() != memory.loss(wide)["nll"].item()
    for wrong in (-1.0, math.nan, math.inf, None, "0.3"):
        with pytest.raises(UserError, match=f"latent_noise must be a number from 0 on, not {wrong!r}"):
            Memory(3, 2, latent_noise=wrong)


@pytest.mark.parametrize(("share", "noise", "tolerance"), [(0.0, 0.0, 1e-6), (0.5, 0.5, 0.02), (1.0, 2.0, 0.05)])
def test_z_is_drawn_with_a_share_of_v_s_noise(share, noise, tolerance):
    """A mixture that is N(0, 1) whatever it sees: ½ z² + ½ log 2π nats, z² being μ² + (share · σ)² on average."""
    length, batch, mean, std = 100, 100, 0.7, 2.0
    latents = Posterior(torch.full((length + 1, batch, 3), mean), torch.full((length + 1, batch, 3), math.log(std)))
    flags = torch.zeros(length, batch, dtype=torch.bool)
    window = Window(latents, torch.zeros(length, batch, 2), torch.zeros(length, batch), flags, flags, ~flags)
    memory = Memory(3, 2, hidden_dim=8, latent_noise=share)
    torch.nn.init.zeros_(memory.network.heads.weight)
    torch.nn.init.zeros_(memory.network.heads.bias)
    torch.manual_seed(0)
    nll = memory.loss(window)["nll"].item()
    assert nll == pytest.approx(0.5 * mean**2 + noise + 0.5 * math.log(2 * math.pi), abs=tolerance)


def test_rewards_are_spread_over_their_neighbours():
    """(1, 4, 6, 4, 1)/16 after two passes; nothing leaves valid steps: 16 → 12, 4 → 12 − 2, 4 + 2 − 1 at its edge."""
    reward, valid = torch.zeros(7, 3), torch.ones(7, 3, dtype=torch.bool)
    reward[3, 0] = reward[0, 1] = reward[4, 1] = reward[4, 2] = 16.0
    valid[5:, 1] = valid[5:, 2] = False
    reward[6, 2] = 99.0  # behind the end: as it is
    spread = smoothed(reward, valid, passes=2)
    assert spread[:, 0].tolist() == [0, 1, 4, 6, 4, 1, 0]
    assert spread[:, 1].tolist() == [10, 5, 2, 5, 10, 0, 0]
    assert spread[:, 2].tolist() == [0, 0, 1, 5, 10, 0, 99]
    assert torch.equal(smoothed(reward, valid, passes=0), reward)


def test_m_learns_smoothed_rewards(window):
    """A head that says nothing is wrong by the squares of the smoothed rewards."""
    memory = Memory(3, 2, hidden_dim=8, reward_smoothing=1)
    torch.nn.init.zeros_(memory.network.heads.weight)
    torch.nn.init.zeros_(memory.network.heads.bias)
    reward = torch.zeros(6, 4)
    reward[1, 0], reward[2, 1] = 4.0, 4.0  # the second one's last step: (…, 1, 3)
    error = memory.loss(window._replace(reward=reward))["reward_error"].item()
    assert error == pytest.approx((1 + 4 + 1 + 1 + 9) / 21)
    for wrong in (-1, 1.5, None):
        with pytest.raises(UserError, match=f"reward_smoothing must be a whole number from 0 on, not {wrong!r}"):
            Memory(3, 2, reward_smoothing=wrong)


def test_the_second_bias_stays_zero(window):
    memory = Memory(3, 2, hidden_dim=8)
    optimizer = memory.configure_optimizers()
    before = memory.network.lstm.bias_ih_l0.clone()
    memory.loss(window)["loss"].backward()
    optimizer.step()
    assert (memory.network.lstm.bias_hh_l0 == 0).all()
    assert not torch.equal(memory.network.lstm.bias_ih_l0, before)
