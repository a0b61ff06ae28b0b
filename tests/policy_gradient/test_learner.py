import pytest
import torch
from corridor import DISCRETE, Corridor

from worldmodels.errors import UserError
from worldmodels.policy_gradient.a2c import A2C
from worldmodels.policy_gradient.estimators import Estimator
from worldmodels.policy_gradient.policies import Policy
from worldmodels.policy_gradient.ppo import PPO
from worldmodels.policy_gradient.q_actor_critic import QActorCritic
from worldmodels.policy_gradient.reinforce import Reinforce
from worldmodels.types import Trajectory


def make(cls, world, **options):
    torch.manual_seed(0)
    policy = Policy([4], DISCRETE, hidden=[8], value_hidden=[8], action_values=cls.action_values)
    return cls(policy, world, **{"steps": 7, **options})


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


def test_rewards_are_scaled_for_learning_alone():
    plain, scaled = make(A2C, Corridor()), make(A2C, Corridor(), reward_scale=0.25)
    for learner in (plain, scaled):
        torch.manual_seed(1)
        learner.found = learner.play()
    assert torch.equal(scaled.found.reward, 0.25 * plain.found.reward) and plain.found.reward.any()
    assert scaled.returns.mean() == plain.returns.mean()


def test_the_learning_rate_falls_to_zero():
    learner = make(A2C, Corridor(), learning_rate=0.5, anneal=True)
    learner._trainer = type("Trainer", (), {"estimated_stepping_batches": 4})()
    made = learner.configure_optimizers()
    rates = []
    for _ in range(5):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([0.5, 0.375, 0.25, 0.125, 0.0])


def test_a_policy_gets_sharper_by_the_same_factor_each_update():
    """Of four updates the first plays at 4^0, the last at 4^(3/4); PPO learns at the sharpness that it played at."""
    learner = make(A2C, Corridor(), sharpen=4.0)
    found = []
    for update in range(4):
        learner._trainer = type("Trainer", (), {"estimated_stepping_batches": 4, "global_step": update})()
        learner.play()
        found.append(learner.policy.sharpness.item())
    assert found == pytest.approx([1, 2**0.5, 2, 2**1.5])
    ppo = make(PPO, Corridor(), sharpen=4.0, epochs=2, minibatches=1)
    for update in range(2):
        ppo._trainer = type("Trainer", (), {"estimated_stepping_batches": 4, "global_step": update})()
        batch = ppo.next_batch()
        assert ppo.policy.sharpness == 1
        assert torch.allclose(ppo.policy(batch.state)[0].log_prob(batch.action), batch.log_prob, atol=1e-6)
    with pytest.raises(UserError, match=r"algo\.sharpen"):
        make(A2C, Corridor(), sharpen=0.5)


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


@pytest.mark.parametrize("target", ["max", "sarsa", "expected"])
@pytest.mark.parametrize("masks", [True, False])
def test_q_actor_critic_loss_by_hand(target, masks):
    """Transition by transition; "max" without masks and γ = 1 is the form of the slides."""
    discount = 0.8 if masks else 1.0
    learner = make(QActorCritic, Corridor(terminates=True), target=target, masks=masks, discount=discount)
    batch = learner.next_batch()
    losses = learner.loss(batch)
    actions, q = learner.policy(batch.state)
    following, next_q = learner.policy(batch.next_state)
    log_prob = actions.log_prob(batch.action)
    policy_loss = value_loss = 0.0
    for t in range(7):
        for b in range(3):
            if target == "max":
                worth = next_q[t, b].max()
            elif target == "sarsa":
                worth = next_q[t, b, batch.next_action[t, b]]
            else:
                worth = (following.probabilities[t, b] * next_q[t, b]).sum()
            if masks and batch.terminated[t, b]:
                worth = 0.0
            chosen = q[t, b, batch.action[t, b]]
            policy_loss -= log_prob[t, b] * chosen.item() / 21
            value_loss += (chosen - (batch.reward[t, b] + discount * worth)) ** 2 / 21
    assert losses["policy_loss"].item() == pytest.approx(policy_loss.item(), abs=1e-6)
    assert losses["value_loss"].item() == pytest.approx(value_loss.item(), abs=1e-6)
    place = batch.state.argmax(-1)
    assert torch.equal(batch.next_state.argmax(-1), (place + batch.action) % 4), "the true next state, ended or not"
    for t in (0, 1, 2, 3, 5):
        assert torch.equal(batch.next_action[t], batch.action[t + 1])


def test_q_actor_critic_s_gradient_leaves_its_targets_alone():
    learner = make(QActorCritic, Corridor(), baseline="value", value_weight=0.0, entropy_weight=0.0)
    learner.loss(learner.next_batch())["loss"].backward()
    assert all(p.grad is None or not p.grad.any() for p in learner.policy.critic.parameters())
    learner = make(QActorCritic, Corridor(), value_weight=1.0)
    batch = learner.next_batch()
    losses = learner.loss(batch)
    gradients = torch.autograd.grad(losses["value_loss"], list(learner.policy.critic.parameters()), retain_graph=True)
    q = learner.policy(batch.state)[1].gather(-1, batch.action[..., None]).squeeze(-1)
    with torch.no_grad():
        probabilities = learner.policy(batch.next_state)[0].probabilities
        target = batch.reward + 0.99 * (probabilities * learner.policy(batch.next_state)[1]).sum(-1)
    wanted = torch.autograd.grad((q - target).square().mean(), list(learner.policy.critic.parameters()))
    for one, other in zip(gradients, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_ppo_s_first_step_is_a2c_s():
    """On the weights that played, ρ = 1: the gradient is that of A2C on the same rollout."""
    learner = make(PPO, Corridor(), epochs=1, minibatches=1)
    trajectory = learner.play()
    learner.play = lambda: trajectory
    batch = learner.next_batch()
    a2c = make(A2C, Corridor())
    a2c.policy = learner.policy
    parameters = list(learner.policy.parameters())
    ours = torch.autograd.grad(learner.loss(batch)["loss"], parameters)
    theirs = torch.autograd.grad(a2c.loss(trajectory)["loss"], parameters)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "ratio, advantage, grows", [(1.0, 1, True), (1.3, 1, False), (1.3, -1, True), (0.7, 1, True), (0.7, -1, False)]
)
def test_ppo_clips_what_went_too_far(ratio, advantage, grows):
    """ε = 0.2: no gradient once the ratio has left [0.8, 1.2] in the direction that the advantage asks for."""
    learner = make(PPO, Corridor())
    log_ratio = torch.tensor(ratio).log().requires_grad_(True)
    found = learner.surrogate(log_ratio, torch.tensor(float(advantage)))
    assert found.item() == pytest.approx(min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage), abs=1e-6)
    (slope,) = torch.autograd.grad(found, log_ratio)
    assert (slope != 0) == grows


def test_ppo_goes_over_each_step_once_an_epoch():
    learner = make(PPO, Corridor(), epochs=3, minibatches=4)
    batches = [learner.next_batch() for _ in range(12)]
    assert not learner.waiting and learner.steps_played == 21
    for epoch in range(3):
        targets = torch.cat([batch.target for batch in batches[4 * epoch : 4 * epoch + 4]])
        assert torch.equal(targets.sort().values, torch.cat([b.target for b in batches[:4]]).sort().values)
    with pytest.raises(UserError, match="between 1 and the rollout's 21 steps"):
        make(PPO, Corridor(), minibatches=22)


@pytest.mark.parametrize(
    "cls, options",
    [
        (A2C, {"steps": 5}),
        (A2C, {"steps": 5, "estimator": "n_step", "lookahead": 2}),
        (PPO, {"steps": 5, "epochs": 2, "minibatches": 2}),
        (QActorCritic, {"steps": 5, "discount": 0.5}),
        (QActorCritic, {"steps": 5, "target": "sarsa", "baseline": "value"}),
        (QActorCritic, {"steps": 5, "target": "max", "baseline": "value"}),
        (Reinforce, {"baseline": "optimal", "estimator": "total"}),
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
        learner.loss(learner.next_batch())["loss"].backward()
        learner.configure_gradient_clipping(optimizer)
        optimizer.step()
    assert learner.roll_out()[0].action.float().mean() > 0.9


def test_unknown_estimators_are_named():
    with pytest.raises(UserError, match="reward_to_go"):
        make(Reinforce, Corridor(), estimator="all")
    with pytest.raises(UserError, match="baseline"):
        make(Reinforce, Corridor(), baseline="best")


def test_a_point_ends_what_the_actions_before_it_answer_for():
    """γ = 0.5; rewards 0 1 0 0 −1 0 in one place: without points the later ones reach back past the earlier."""
    reward = torch.tensor([0.0, 1.0, 0.0, 0.0, -1.0, 0.0])[:, None]
    never = torch.zeros(6, 1, dtype=torch.bool)
    last = never.clone()
    last[-1] = True
    state, action = torch.zeros(6, 1, 4), torch.zeros(6, 1, dtype=torch.int64)
    played = Trajectory(state, action, reward, last, never, torch.zeros(6, 1), ~never)
    for points, wanted in (
        (True, [0.5, 1, -0.25, -0.5, -1, 0]),
        (False, [0.5 - 1 / 16, 1 - 1 / 8, -0.25, -0.5, -1, 0]),
    ):
        for learner in (
            make(Reinforce, Corridor(), discount=0.5, points=points),
            make(A2C, Corridor(), discount=0.5, points=points, gae_lambda=1.0),  # λ = 1: the whole return again
        ):
            found, _ = learner.estimate(played, torch.zeros(6, 1))
            assert found.flatten().tolist() == pytest.approx(wanted)


def test_what_has_no_returns_has_no_points():
    with pytest.raises(UserError, match=r"algo\.points"):
        make(QActorCritic, Corridor(), points=True)
