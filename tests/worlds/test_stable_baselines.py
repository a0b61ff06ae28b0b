"""An unmodified agent of another library learns in our dream."""

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecEnv

from worldmodels.checkpoints import stamp
from worldmodels.memory.training import Memory


class AsVecEnv(VecEnv):
    """stable-baselines3's own vector protocol around a same-step gymnasium.vector.VectorEnv."""

    def __init__(self, envs):
        self.envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self):
        return self.envs.reset(seed=0)[0]

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        observation, reward, terminated, truncated, infos = self.envs.step(self.actions)
        each = [{} for _ in range(self.num_envs)]
        for place in np.flatnonzero(terminated | truncated):
            each[place]["terminal_observation"] = infos["final_obs"][place]
            each[place]["TimeLimit.truncated"] = bool(truncated[place])
        return observation, reward.astype(np.float32), terminated | truncated, each

    def close(self):
        self.envs.close()

    def get_attr(self, name, indices=None):
        return [None] * self.num_envs

    def set_attr(self, name, value, indices=None):
        raise AttributeError(name)

    def env_method(self, name, *arguments, indices=None, **options):
        raise AttributeError(name)

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    memory = Memory(3, 2, hidden_dim=8)
    generator = torch.Generator().manual_seed(0)
    contexts = {
        "mean": torch.randn(5, 20, 3, generator=generator),
        "log_std": torch.full((5, 20, 3), -2.0),
        "action": torch.randn(4, 20, 2, generator=generator),
        "first": torch.zeros(4, 20, dtype=torch.bool),
    }
    action = {"type": "box", "low": [-1.0, 0.0], "high": [1.0, 0.5]}
    facts = {"environment": {"action": action}, "contexts": contexts, "vision_sha256": ""}
    content = {"state_dict": memory.state_dict()}
    stamp(content, "memory", dict(memory.hparams), facts)
    torch.save(content, tmp_path / "m.ckpt")
    return tmp_path / "m.ckpt"


@pytest.mark.parametrize("algorithm, options", [(PPO, {"n_steps": 32, "batch_size": 64}), (A2C, {"n_steps": 8})])
def test_an_unmodified_agent_learns_in_the_dream(checkpoint, algorithm, options):
    envs = gymnasium.make_vec("worldmodels/Dream-v0", num_envs=4, memory=checkpoint, horizon=16)
    agent = algorithm("MlpPolicy", AsVecEnv(envs), seed=0, device="cpu", **options)
    before = [parameter.clone() for parameter in agent.policy.parameters()]
    agent.learn(4 * 32 * 3)
    assert agent.num_timesteps == 4 * 32 * 3
    changed = [not torch.equal(old, new) for old, new in zip(before, agent.policy.parameters())]
    assert any(changed) and all(torch.isfinite(new).all() for new in agent.policy.parameters())
