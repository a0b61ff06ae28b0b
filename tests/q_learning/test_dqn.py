import pytest
import torch
from corridor import DISCRETE, Corridor

from worldmodels.errors import UserError
from worldmodels.q_learning.dqn import DQN
from worldmodels.q_learning.experience import Experience, Transitions
from worldmodels.q_learning.network import QNetwork
from worldmodels.types import Rollout


def make(world=None, **options):
    torch.manual_seed(0)
    network = QNetwork([4], DISCRETE, hidden=[8])
    return DQN(network, world or Corridor(), **{"steps": 4, "warm_up": 0, "capacity": 1000, **options})


def numbered(first, steps, batch=2):
    """Steps of which state, action and reward are their number; the next state is that of the number behind."""
    number = (torch.arange(first, first + steps)[:, None] * 10 + torch.arange(batch)).float()
    state = number[..., None]
    ends = torch.zeros_like(number, dtype=torch.bool)
    return Rollout(state, number.long(), state + 10, number, ends, ends.clone())


@pytest.mark.parametrize("capacity", [6, 8, 14, 100])
def test_experience_draws_the_last_steps_and_what_followed_them(capacity):
    torch.manual_seed(0)
    experience = Experience(capacity)
    for first in range(0, 30, 3):
        experience.add(numbered(first, 3))
        drawn = experience.sample(2000)
        kept = min(capacity // 2, first + 3)
        wanted = {10 * n + b for n in range(first + 3 - kept, first + 3) for b in range(2)}
        assert set(drawn.action.tolist()) == wanted, "all that is kept, and nothing older"
        assert experience.steps == len(wanted)
        assert torch.equal(drawn.state[:, 0], drawn.reward) and torch.equal(drawn.reward, drawn.action.float())
        assert torch.equal(drawn.next_state[:, 0], drawn.reward + 10)
    counts = torch.bincount(experience.sample(20000).action)
    share = counts[counts > 0] / 20000
    assert torch.allclose(share, torch.full_like(share, 1 / len(wanted)), atol=0.015)


def test_steps_that_the_clock_cut_short_have_no_weight():
    experience = Experience(100)
    rollout = numbered(0, 3)
    rollout.truncated[1, 0] = rollout.terminated[2, 1] = True
    experience.add(rollout)
    drawn = experience.sample(500)
    assert torch.equal(drawn.weight == 0, drawn.action == 10)
    assert torch.equal(drawn.terminated, drawn.action == 21)


@pytest.mark.parametrize("double", [True, False])
def test_loss_by_hand(double):
    """Step by step: huber(Q(s, a) − r − γ Q′(s′, a′)), a′ by Q or by Q′; nothing is worth anything behind an end."""
    learner = make(double=double, discount=0.8)
    torch.manual_seed(1)
    for parameter in learner.target.parameters():
        parameter.copy_(torch.randn_like(parameter))
    n = 40
    batch = Transitions(
        torch.randn(n, 4),
        torch.randint(2, (n,)),
        3 * torch.randn(n),
        torch.rand(n) < 0.3,
        torch.randn(n, 4),
        (torch.rand(n) < 0.8).float(),
    )
    q, next_q, frozen = learner.policy(batch.state), learner.policy(batch.next_state), learner.target(batch.next_state)
    total, differ = 0.0, 0
    for i in range(n):
        best = int((next_q if double else frozen)[i].argmax())
        differ += int(frozen[i].argmax()) != int(next_q[i].argmax())
        worth = 0.0 if batch.terminated[i] else frozen[i, best].item()
        error = q[i, batch.action[i]].item() - batch.reward[i].item() - 0.8 * worth
        huber = 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5
        total += huber * batch.weight[i].item()
    assert differ > 5, "else this test could not tell them apart"
    assert learner.loss(batch)["loss"].item() == pytest.approx(total / batch.weight.sum().item(), rel=1e-5)


def test_the_target_stands_still_between_renewals():
    learner = make(target_every=3, updates_per_rollout=2, learning_rate=0.1)
    optimizer = learner.configure_optimizers()
    for update in range(7):
        batch = learner.next_batch()
        assert learner.steps_played == 12 * (update // 2 + 1), "twelve steps for every second update"
        same = all(torch.equal(a, b) for a, b in zip(learner.target.parameters(), learner.policy.parameters()))
        assert same == (update % 3 == 0)
        optimizer.zero_grad()
        learner.loss(batch)["loss"].backward()
        assert all(p.grad is None for p in learner.target.parameters())
        optimizer.step()


def test_exploration_falls_and_then_stays():
    learner = make(exploration=0.1, exploration_steps=100)
    found = []
    for played in (0, 50, 100, 500):
        learner.steps_played = played
        found.append(learner.chance_to_explore())
    assert found == pytest.approx([1.0, 0.55, 0.1, 0.1])
    learner.steps_played = 500
    torch.manual_seed(0)
    state = torch.randn(20000, 4)
    best = learner.policy.act(state)
    other = (learner._act(state) != best).float().mean().item()
    assert other == pytest.approx(0.05, abs=0.006), "half of what is random is the best action after all"


def test_nothing_is_learned_before_the_warm_up():
    learner = make(warm_up=100)
    learner.next_batch()
    assert learner.steps_played == 108 and learner.experience.steps == 108


@pytest.mark.parametrize("terminates", [True, False])
def test_it_learns_to_go_right(terminates):
    learner = make(Corridor(batch=8, terminates=terminates), learning_rate=0.01, exploration_steps=300, discount=0.5)
    optimizer = learner.configure_optimizers()
    for _ in range(200):
        optimizer.zero_grad()
        learner.loss(learner.next_batch())["loss"].backward()
        optimizer.step()
    assert learner.policy.act(torch.eye(4)).eq(1).all()


def test_bad_settings_are_named():
    with pytest.raises(UserError, match="discrete"):
        QNetwork([4], {"type": "box", "low": [-1.0], "high": [1.0]})
    with pytest.raises(UserError, match=r"algo\.batch_size must be at least 1"):
        make(batch_size=0)
    with pytest.raises(UserError, match=r"algo\.capacity=10 must hold a rollout of 12 steps"):
        make(capacity=10)
    # rows of three: 100 would hold 99, and the warm-up never end
    with pytest.raises(UserError, match="in rows of 3"):
        make(capacity=100, warm_up=100)


def test_exploration_is_never_recorded():
    """A recorded rollout would go on with the chance to explore that it was recorded with."""
    world = Corridor()
    world.records, world.rollout = True, None
    assert make(world).next_batch().action.shape == (64,)
