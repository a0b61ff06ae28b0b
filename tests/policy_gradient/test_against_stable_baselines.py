"""A2C and GAE beside stable-baselines3's on one rollout, in which episodes end and others are cut short."""

import gymnasium
import numpy as np
import pytest
import torch

from worldmodels.policy_gradient.a2c import A2C
from worldmodels.policy_gradient.policies import Policy
from worldmodels.policy_gradient.returns import generalized_advantage
from worldmodels.types import Trajectory

stable_baselines3 = pytest.importorskip("stable_baselines3")

LIMIT, BATCH, STEPS, GAMMA, LAMBDA = 12, 4, 20, 0.97, 0.9


class Played:
    """What stable-baselines3 played, the network that it played with, and the same for us."""

    def __init__(self, normalize, entropy_weight):
        envs = stable_baselines3.common.vec_env.DummyVecEnv(
            [lambda: gymnasium.make("CartPole-v1", max_episode_steps=LIMIT)] * BATCH
        )
        self.theirs = stable_baselines3.A2C(
            "MlpPolicy",
            envs,
            n_steps=STEPS,
            gamma=GAMMA,
            gae_lambda=LAMBDA,
            ent_coef=entropy_weight,
            vf_coef=0.7,
            normalize_advantage=normalize,
            max_grad_norm=1e9,
            learning_rate=0.0,
            policy_kwargs={"net_arch": {"pi": [8], "vf": [6]}},
            seed=0,
            device="cpu",
        )
        _, callback = self.theirs._setup_learn(STEPS * BATCH)
        ended = []
        step_wait = envs.step_wait

        def spy():
            found = step_wait()
            ended.append((found[2].copy(), [dict(info) for info in found[3]]))
            return found

        envs.step_wait = spy
        buffer = self.theirs.rollout_buffer
        self.theirs.collect_rollouts(envs, callback, buffer, STEPS)

        policy = self.theirs.policy
        self.ours = Policy([4], {"type": "discrete", "n": 2}, hidden=[8], value_hidden=[6])
        pairs = [
            (self.ours.actor[0], policy.mlp_extractor.policy_net[0]),
            (self.ours.actor[2], policy.action_net),
            (self.ours.critic[0], policy.mlp_extractor.value_net[0]),
            (self.ours.critic[2], policy.value_net),
        ]
        self.pairs = [(getattr(a, name), getattr(b, name)) for a, b in pairs for name in ("weight", "bias")]
        with torch.no_grad():
            for own, other in self.pairs:
                own.copy_(other)
        done = torch.from_numpy(np.stack([row for row, _ in ended]))
        truncated = torch.tensor([[info.get("TimeLimit.truncated", False) for info in infos] for _, infos in ended])
        assert truncated.any() and (done & ~truncated).any(), "the rollout must have both ends"
        state = torch.as_tensor(buffer.observations)
        next_value = torch.zeros(STEPS, BATCH)
        with torch.no_grad():
            for t, (_, infos) in enumerate(ended):
                for b, info in enumerate(infos):
                    if truncated[t, b]:
                        next_value[t, b] = self.ours.value(torch.as_tensor(info["terminal_observation"]))
            next_value[-1] = torch.where(
                truncated[-1], next_value[-1], self.ours.value(torch.as_tensor(self.theirs._last_obs))
            )
        self.trajectory = Trajectory(
            state,
            torch.as_tensor(buffer.actions).long().squeeze(-1),
            torch.ones(STEPS, BATCH),
            done & ~truncated,
            truncated,
            next_value,
            torch.ones(STEPS, BATCH, dtype=torch.bool),
        )


def test_advantages():
    played = Played(False, 0.0)
    reward, terminated, truncated = played.trajectory[2:5]
    value = played.ours.value(played.trajectory.state).detach()
    ours = generalized_advantage(reward, terminated, truncated, value, played.trajectory.next_value, GAMMA, LAMBDA)
    theirs = torch.as_tensor(played.theirs.rollout_buffer.advantages)
    assert torch.allclose(ours, theirs, atol=1e-6, rtol=0), (ours - theirs).abs().max()


@pytest.mark.parametrize("normalize, entropy_weight", [(False, 0.0), (False, 0.02), (True, 0.02)])
def test_loss_and_gradient(normalize, entropy_weight):
    played = Played(normalize, entropy_weight)
    learner = A2C(
        played.ours,
        type("World", (), {"batch": BATCH}),
        STEPS,
        GAMMA,
        LAMBDA,
        entropy_weight=entropy_weight,
        value_weight=0.7,
        normalize_advantage=normalize,
    )
    losses = learner.loss(played.trajectory)
    losses["loss"].backward()
    played.theirs.train()
    logged = played.theirs.logger.name_to_value
    assert losses["value_loss"].item() == pytest.approx(logged["train/value_loss"], abs=1e-6, rel=1e-6)
    assert losses["entropy"].item() == pytest.approx(-logged["train/entropy_loss"], abs=1e-6)
    if normalize:
        # theirs divides by the deviation with n − 1, ours with n, which holds for a batch of one as well
        n = STEPS * BATCH
        scale = ((n - 1) / n) ** 0.5
        assert losses["policy_loss"].item() * scale == pytest.approx(logged["train/policy_loss"], abs=1e-6)
        return
    assert losses["policy_loss"].item() == pytest.approx(logged["train/policy_loss"], abs=1e-6)
    for own, other in played.pairs:
        assert torch.allclose(own.grad, other.grad, atol=1e-6, rtol=1e-5)
