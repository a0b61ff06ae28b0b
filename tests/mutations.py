"""Plants faults in the learners' mathematics, one at a time, and runs the tests that should notice.

What survived is printed.

Each fault has a process of its own, forked from this one, that imports the package with one line changed; no file is
touched.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

import gymnasium  # noqa: F401  once here, not in each fork
import lightning  # noqa: F401
import pytest
import torch

ROOT = Path(__file__).parents[1]
RETURNS, ESTIMATORS = "policy_gradient/returns.py", "policy_gradient/estimators.py"
GRADIENT, LEARNER, POLICIES = "policy_gradient/learner.py", "learner.py", "policy_gradient/policies.py"
PPO, CRITIC = "policy_gradient/ppo.py", "policy_gradient/q_actor_critic.py"
DQN, EXPERIENCE, BODIES = "q_learning/dqn.py", "q_learning/experience.py", "bodies.py"

# file, the line as it is, the line as it must not be
FAULTS = [
    ("a terminated state is worth something", RETURNS, "torch.where(terminated, 0.0, inside)", "inside"),
    (
        "the end mask is flipped",
        RETURNS,
        "torch.where(terminated, 0.0, inside)",
        "torch.where(terminated, inside, 0.0)",
    ),
    (
        "a truncated state is worth nothing",
        RETURNS,
        "torch.where(terminated, 0.0, inside)",
        "torch.where(terminated | truncated, 0.0, inside)",
    ),
    (
        "terminated and truncated are swapped",
        RETURNS,
        "following = torch.where(truncated[t], next_value[t], following)",
        "following = torch.where(terminated[t], next_value[t], following)",
    ),
    (
        "γ is dropped from the return",
        RETURNS,
        "following = reward[t] + discount * torch.where",
        "following = reward[t] + torch.where",
    ),
    ("γ is dropped from δ", RETURNS, "delta = reward + discount * _worth", "delta = reward + _worth"),
    ("λ is dropped", RETURNS, "decay = discount * gae_lambda *", "decay = discount *"),
    (
        "advantages run on over a truncation",
        RETURNS,
        "(~(terminated | truncated)).to(reward.dtype)",
        "(~terminated).to(reward.dtype)",
    ),
    ("V(s) is not taken off", RETURNS, "value, next_value) - value", "value, next_value)"),
    ("V of the same state follows", RETURNS, "next_value[:-1], value[1:])", "next_value[:-1], value[:-1])"),
    ("n steps run on over an end", RETURNS, "goes_on = ~(terminated | truncated)", "goes_on = ~terminated"),
    ("n steps are n + 1", RETURNS, "range(lookahead - 1)", "range(lookahead)"),
    (
        "the total return does not begin anew",
        RETURNS,
        "torch.where(terminated[t - 1] | truncated[t - 1], to_go[t], total)",
        "torch.where(terminated[t] | truncated[t], to_go[t], total)",
    ),
    (
        "causality is dropped",
        ESTIMATORS,
        'if self.returns == "total" else to_go',
        'if self.returns != "total" else to_go',
    ),
    ("the mean is over steps that were not played", ESTIMATORS, "found[trajectory.valid].mean()", "found.mean()"),
    ("the optimal baseline does not weigh", ESTIMATORS, "(score * returns).sum() / score.sum()", "returns.mean()"),
    (
        "the critic learns the advantage",
        ESTIMATORS,
        "return advantage, advantage + value",
        "return advantage, advantage",
    ),
    ("the policy goes downhill", GRADIENT, "policy_loss = -(self", "policy_loss = (self"),
    ("entropy is punished", GRADIENT, "- self.entropy_weight * entropy", "+ self.entropy_weight * entropy"),
    (
        "V's gradient flows through the advantage",
        GRADIENT,
        "self.estimate(trajectory, value.detach())",
        "self.estimate(trajectory, value)",
    ),
    (
        "V of the next episode's state",
        GRADIENT,
        "self.policy.value(next_states[t])",
        "self.policy.value(next_states[t - 1])",
    ),
    (
        "steps that were not played count",
        GRADIENT,
        "trajectory.valid.float() / trajectory.valid.sum()",
        "torch.ones_like(value) / value.numel()",
    ),
    (
        "advantages keep their mean",
        GRADIENT,
        "advantage = (advantage - mean) / (spread",
        "advantage = advantage / (spread",
    ),
    (
        "scores are summed over episodes",
        GRADIENT,
        "gradient.flatten(1).square().sum(1)",
        "gradient.flatten(1).sum(1).square()",
    ),
    ("the action is shifted by one", LEARNER, "rows.append((state, action,", "rows.append((step.state, action,"),
    (
        "the next episode's first state follows",
        LEARNER,
        "(state, action, step.next_state,",
        "(state, action, step.state,",
    ),
    (
        "terminated ↔ truncated",
        LEARNER,
        "step.reward, step.terminated, step.truncated,",
        "step.reward, step.truncated, step.terminated,",
    ),
    (
        "episodes are played on",
        LEARNER,
        "alive = alive & ~(step.terminated | step.truncated)",
        "alive = alive & ~step.truncated",
    ),
    ("μ ↔ σ", POLICIES, "torch.addcmul(self.mean, self.log_std.exp(),", "torch.addcmul(self.log_std.exp(), self.mean,"),
    ("the squash is forgotten", POLICIES, "- squash - self.half.log()", "- self.half.log()"),
    (
        "the Beta density keeps the unit interval's scale",
        POLICIES,
        "self.distribution.log_prob(x) - self.width.log()",
        "self.distribution.log_prob(x)",
    ),
    ("α ↔ β", POLICIES, "Beta(alpha, beta,", "Beta(beta, alpha,"),
    (
        "the ratio is upside down",
        PPO,
        "actions.log_prob(batch.action) - batch.log_prob",
        "batch.log_prob - actions.log_prob(batch.action)",
    ),
    ("the clip is optimistic", PPO, "torch.minimum(ratio * advantage", "torch.maximum(ratio * advantage"),
    ("Q of another action", CRITIC, "chosen = _of(q, batch.action)", "chosen = _of(q, 1 - batch.action)"),
    ("max is expected", CRITIC, '"max": lambda: next_q.amax(-1)', '"max": lambda: next_q.mean(-1)'),
    (
        "what follows a truncation is worth nothing",
        CRITIC,
        "goes_on = ~(terminated | truncated)[:-1]",
        "goes_on = (terminated | truncated)[:-1]",
    ),
    (
        "the target moves with Q",
        DQN,
        "next_q = self.target(batch.next_state)",
        "next_q = self.policy(batch.next_state)",
    ),
    ("Q′ chooses though it is double", DQN, "if self.is_double else", "if not self.is_double else"),
    (
        "a terminated state is worth something to DQN",
        DQN,
        "torch.where(batch.terminated, 0.0, next_q",
        "torch.where(~batch.terminated, 0.0, next_q",
    ),
    ("γ is dropped from DQN", DQN, "batch.reward + self.discount * worth", "batch.reward + worth"),
    ("the state itself follows", EXPERIENCE, "(place + 1) % rows * batch", "place % rows * batch"),
    ("the newest step's next state is lost", EXPERIENCE, "self.rows[0][self.head] = rollout.next_state[-1]", "pass"),
    ("statistics forget the shift of the mean", BODIES, "+ away.square() * self.count * len(x) / count", ""),
]
SUITES = {
    RETURNS: ["policy_gradient/test_returns.py", "policy_gradient/test_three_steps.py"],
    ESTIMATORS: ["policy_gradient/test_three_steps.py", "policy_gradient/test_learner.py"],
    POLICIES: ["policy_gradient/test_policies.py"],
    DQN: ["q_learning"],
    EXPERIENCE: ["q_learning"],
    BODIES: ["test_bodies.py"],
}
OTHERWISE = ["policy_gradient/test_three_steps.py", "policy_gradient/test_learner.py"]


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the one module, with its line changed."""

    def __init__(self, file, before, after):
        self.path = ROOT / "worldmodels" / file
        self.name = "worldmodels." + file.removesuffix(".py").replace("/", ".")
        self.before, self.after = before, after

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self, origin=str(self.path)) if name == self.name else None

    def exec_module(self, module):
        source = self.path.read_text()
        assert source.count(self.before) == 1, f"{self.path.name} has not one {self.before!r}"
        exec(compile(source.replace(self.before, self.after), str(self.path), "exec"), module.__dict__)


def survives(file, before, after) -> bool:
    """Whether the tests pass with the fault. Raises RuntimeError where they could not be run."""
    child = os.fork()
    if not child:
        sys.meta_path.insert(0, Planted(file, before, after))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        suites = [str(ROOT / "tests" / suite) for suite in SUITES.get(file, OTHERWISE)]
        chosen = ["-k", "not learns_to_go_right and not they_learn", "-p", "no:cacheprovider", "-p", "no:xdist"]
        os._exit(int(pytest.main([*suites, "-x", "-q", *chosen, "--rootdir", str(ROOT)])))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, 1):
        raise RuntimeError(f"pytest ended with {status}")
    return status == 0


def main() -> None:
    torch.set_num_threads(1)
    loaded = [name for name in sys.modules if name.startswith("worldmodels")]
    assert not loaded, f"the package is here already: {loaded}"
    for name in {file for _, file, _, _ in FAULTS}:
        if (
            survives(name, "from __future__ import annotations", "from __future__ import annotations  # no fault")
            is False
        ):
            print(f"{name}: its tests fail without any fault")
    for name, *fault in FAULTS:
        try:
            if survives(*fault):
                print(f"{name}: survived")
        except RuntimeError as error:
            print(f"{name}: {error}")
    print(f"{len(FAULTS)} faults")


if __name__ == "__main__":
    main()
