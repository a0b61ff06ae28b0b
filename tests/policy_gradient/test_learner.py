import pytest
import torch

from worldmodels.errors import UserError
from worldmodels.policy_gradient.a2c import A2C
from worldmodels.policy_gradient.estimators import Estimator
from worldmodels.policy_gradient.policies import Policy
from worldmodels.policy_gradient.reinforce import Reinforce
from worldmodels.types import Step, Trajectory

DISCRETE = {"type": "discrete", "n": 2}


class Corridor:
    """State: the place, one-hot of 4. Action 1 goes right and pays 1; `limit` steps make an episode."""

    state_shape, action_space, frames_per_step = (4,), DISCRETE, 2

    def __init__(self, batch=3, limit=5, terminates=False):
        self.batch, self.limit, self.terminates = batch, limit, terminates

    def reset(self):
        self.place = torch.zeros(self.batch, dtype=torch.long)
        self.t = 0
        return self.state()

    def state(self):
        return torch.nn.functional.one_hot(self.place, 4).float()

    def step(self, action):
        self.place = (self.place + action) % 4
        self.t += 1
        next_state = self.state()
        ended = torch.full((self.batch,), self.t % self.limit == 0)
        if ended.any():
            self.place = torch.zeros_like(self.place)
        terminated = ended & self.terminates
        return Step(self.state(), next_state, action.float(), terminated, ended & ~terminated)


def make(cls, world, **options):
    torch.manual_seed(0)
    return cls(Policy([4], DISCRETE, hidden=[8], value_hidden=[8]), world, **{"steps": 7, **options})


def test_a_rollout_is_aligned_and_bootstraps_from_true_last_states():
    world = Corridor()
    learner = make(A2C, world)
    trajectory = learner.play()
    assert trajectory.state.shape == (7, 3, 4) and trajectory.valid.all()
    place = trajectory.state.argmax(-1)
    assert (place[0] == 0).all() and (place[5] == 0).all(), "the clock stopped after five steps"
    for t in (0, 1, 2, 3, 5):
        assert torch.equal(place[t + 1], (place[t] + trajectory.action[t]) % 4)
    assert torch.equal(trajectory.reward, trajectory.action.float())
    assert trajectory.truncated[4].all() and int(trajectory.truncated.sum()) == 3
    zero = torch.tensor([0, 1, 2, 3, 5])
    assert (trajectory.next_value[zero] == 0).all()
    for t in (4, 6):
        last = torch.nn.functional.one_hot((place[t] + trajectory.action[t]) % 4, 4).float()
        assert torch.allclose(trajectory.next_value[t], learner.policy.value(last))


def test_the_next_rollout_goes_on_where_the_last_one_stopped():
    learner = make(A2C, Corridor(limit=100))
    first, second = learner.play(), learner.play()
    after = (first.state[-1].argmax(-1) + first.action[-1]) % 4
    assert torch.equal(second.state[0].argmax(-1), after)


def test_whole_episodes_are_played_once():
    learner = make(Reinforce, Corridor(limit=4, terminates=True), steps=50)
    trajectory = learner.play()
    assert len(trajectory.reward) == 4, "stops when all are over"
    assert (trajectory.state[0].argmax(-1) == 0).all() and (learner.play().state[0].argmax(-1) == 0).all()


def test_a2c_loss_by_hand():
    learner = make(A2C, Corridor(), gae_lambda=0.9, discount=0.8, entropy_weight=0.1, value_weight=0.25)
    trajectory = learner.play()
    losses = learner.loss(trajectory)
    actions, value = learner.policy(trajectory.state)
    log_prob = actions.log_prob(trajectory.action)
    total = policy_loss = value_loss = 0.0
    for b in range(3):
        advantage = 0.0
        for t in reversed(range(7)):
            stop = t in (4, 6)
            following = trajectory.next_value[t, b] if stop else value[t + 1, b]
            delta = trajectory.reward[t, b] + 0.8 * following.detach() - value[t, b].detach()
            advantage = delta + (0.0 if stop else 0.8 * 0.9 * advantage)
            policy_loss += -log_prob[t, b] * advantage / 21
            value_loss += (advantage + value[t, b].detach() - value[t, b]) ** 2 / 21
    total = policy_loss + 0.25 * value_loss - 0.1 * actions.entropy().mean()
    assert losses["policy_loss"].item() == pytest.approx(policy_loss.item(), abs=1e-6)
    assert losses["value_loss"].item() == pytest.approx(value_loss.item(), abs=1e-6)
    assert losses["loss"].item() == pytest.approx(total.item(), abs=1e-6)


def test_reinforce_ignores_what_follows_an_episode():
    """Two episodes of different length in one batch: the shorter one's rest must not count."""
    learner = make(Reinforce, Corridor(batch=2), discount=1.0, baseline="none", estimator="reward_to_go")
    state = torch.eye(4)[torch.zeros(3, 2, dtype=torch.long)]
    ends = torch.tensor([[False, True], [False, False], [True, True]])
    trajectory = Trajectory(
        state,
        torch.ones(3, 2, dtype=torch.long),
        torch.tensor([[1.0, 5.0], [2.0, 100.0], [4.0, 100.0]]),
        ends,
        torch.zeros_like(ends),
        torch.zeros(3, 2),
        torch.tensor([[True, True], [True, False], [True, False]]),
    )
    losses = learner.loss(trajectory)
    log_prob = learner.policy(state)[0].log_prob(trajectory.action)[0, 0]
    assert losses["policy_loss"].item() == pytest.approx(-(log_prob * (7 + 6 + 4 + 5) / 4).item(), rel=1e-6)
    learner.estimator = Estimator("total", "none", 1.0)
    assert learner.loss(trajectory)["policy_loss"].item() == pytest.approx(
        -(log_prob * (7 * 3 + 5) / 4).item(), rel=1e-6
    )
    learner.estimator = Estimator("total", "mean", 1.0)
    assert learner.loss(trajectory)["policy_loss"].item() == pytest.approx(0, abs=1e-6), "equal log π: the mean cancels"


def test_normalised_advantages_have_mean_zero_and_deviation_one():
    learner = make(A2C, Corridor(), normalize_advantage=True)
    seen = {}
    estimate = learner.estimate

    def spy(trajectory, value):
        advantage, target = estimate(trajectory, value)
        seen["advantage"] = advantage
        return advantage, target

    learner.estimate = spy
    trajectory = learner.play()
    losses = learner.loss(trajectory)
    advantage = seen["advantage"]
    normal = (advantage - advantage.mean()) / advantage.std(correction=0)
    log_prob = learner.policy(trajectory.state)[0].log_prob(trajectory.action)
    assert losses["policy_loss"].item() == pytest.approx(-(log_prob * normal).mean().item(), abs=1e-5)


@pytest.mark.parametrize(
    "cls, options",
    [
        (A2C, {"steps": 5}),
        (Reinforce, {"baseline": "value"}),
        (Reinforce, {"baseline": "mean"}),
        (Reinforce, {"baseline": "mean", "estimator": "total"}),
    ],
)
def test_they_learn_to_go_right(cls, options):
    learner = make(cls, Corridor(batch=16), learning_rate=0.02, **options)
    optimizer = learner.configure_optimizers()
    for _ in range(60):
        optimizer.zero_grad()
        learner.loss(learner.play())["loss"].backward()
        learner.configure_gradient_clipping(optimizer)
        optimizer.step()
    assert learner.play().action.float().mean() > 0.9


def test_unknown_estimators_are_named():
    with pytest.raises(UserError, match="reward_to_go"):
        make(Reinforce, Corridor(), estimator="all")
    with pytest.raises(UserError, match="baseline"):
        make(Reinforce, Corridor(), baseline="best")
