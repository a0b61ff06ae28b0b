import pytest
import torch

from worldmodels.controller.cmaes import evolve, fitness
from worldmodels.controller.networks import Controller
from worldmodels.errors import UserError
from worldmodels.types import Step

BOX = {"type": "box", "low": [-1.0, 0.0], "high": [1.0, 3.0]}


class Target:
    """One state; an action earns minus its squared distance from (0.5, 1), over 2 + place % 2 steps in equal parts."""

    state_shape, action_space, frames_per_step = (2,), BOX, 1

    def __init__(self, batch=6):
        self.batch = batch
        self.length = 2 + torch.arange(batch) % 2

    def reset(self):
        self.t = torch.zeros(self.batch, dtype=torch.long)
        return torch.ones(self.batch, 2)

    def step(self, action):
        self.t += 1
        reward = -((action - torch.tensor([0.5, 1.0])) ** 2).sum(-1) / self.length
        ended = self.t == self.length
        self.t[ended] = 0
        return Step(torch.ones(self.batch, 2), torch.ones(self.batch, 2), reward, ended, torch.zeros_like(ended))


@pytest.mark.parametrize("hidden, bias, count", [(0, True, 6), (0, False, 4), (5, True, 27), (5, False, 20)])
def test_a_population_is_its_members(hidden, bias, count):
    controller = Controller([2], BOX, hidden, bias)
    assert controller.count == count
    parameters, state = torch.randn(7, count), torch.randn(7, 3, 2)
    together = controller.act_population(parameters, state)
    assert together.shape == (7, 3, 2)
    for member in range(7):
        controller.parameters_flat.copy_(parameters[member])
        assert torch.allclose(controller.act(state[member]), together[member], atol=1e-6)


def test_a_linear_controller_by_hand():
    controller = Controller([2], BOX)
    controller.parameters_flat.copy_(torch.tensor([1.0, 0.0, 0.0, 2.0, 0.1, -0.2]))  # W [S, A] row by row, then b
    action = controller.act(torch.tensor([[0.3, 0.4]]))[0]
    expected = torch.tanh(torch.tensor([0.3 + 0.1, 0.8 - 0.2]))
    assert torch.allclose(action, torch.tensor([expected[0].item(), 1.5 * (expected[1].item() + 1)]), atol=1e-6)


def test_two_actions_take_one_output():
    controller = Controller([3], {"type": "discrete", "n": 2}, bias=False)
    assert controller.count == 3
    controller.parameters_flat.copy_(torch.tensor([1.0, 0.0, 0.0]))
    assert controller.act(torch.tensor([[2.0, 0, 0], [-2.0, 0, 0]])).tolist() == [1, 0]


# 20 episodes in a line. Two places: in six steps 3 of two and 2 of three, four times. Six: 15 in six steps, the last 5
# take three more. Fifty: all at once.
@pytest.mark.parametrize("batch, steps", [(2, 24), (6, 9), (50, 3)])
def test_fitness_is_the_mean_return_whatever_the_batch(batch, steps):
    scores, played, once = fitness_of_five(Target(batch), max_steps=10)
    assert torch.allclose(scores, once, rtol=1e-5)
    assert played == steps * batch


def test_fitness_counts_no_more_than_max_steps():
    world = Target(2)
    world.length[:] = 4
    scores, played, once = fitness_of_five(world, max_steps=3)
    assert torch.allclose(scores, 0.75 * once, rtol=1e-5)
    assert played == 10 * 3 * 2, "nothing waits for an end that counts no more: both places begin anew"


def fitness_of_five(world, max_steps):
    """Five members, four episodes each; what an action of each earns in a whole episode."""
    controller = Controller([2], BOX)
    parameters = torch.randn(5, controller.count, generator=torch.Generator().manual_seed(0))
    scores, played = fitness(world, controller, parameters, episodes=4, max_steps=max_steps)
    action = controller.act_population(parameters, torch.ones(5, 1, 2))[:, 0]
    return scores, played, -((action - torch.tensor([0.5, 1.0])) ** 2).sum(-1)


def test_evolution_finds_the_target():
    controller = Controller([2], BOX)
    generations = list(evolve(Target(32), controller, 40, population=16, episodes=2, sigma=0.5, max_steps=5, seed=0))
    assert generations[-1].best > -1e-3 > generations[0].mean
    assert torch.allclose(controller.act(torch.ones(1, 2))[0], torch.tensor([0.5, 1.0]), atol=0.02)
    again = Controller([2], BOX)
    assert list(evolve(Target(32), again, 3, 16, 2, 0.5, 5, seed=0)) == generations[:3], "one seed, same numbers"
    # 32 episodes of at most three steps in 32 places: 96 steps a generation
    few = list(evolve(Target(32), Controller([2], BOX), 40, 16, 2, 0.5, 5, seed=0, budget=193))
    assert few == generations[:3] and few[-1].steps == 288


def test_a_population_of_three_is_none():
    with pytest.raises(UserError, match="population"):
        evolve(Target(), Controller([2], BOX), 1, 3, 1, 0.1, 5, 0)


def test_a_checkpoint_gives_the_same_controller(tmp_path):
    controller = Controller([2], BOX, hidden=3)
    controller.parameters_flat.normal_()
    controller.facts = {"world": "dream"}
    controller.save(tmp_path / "c.ckpt")
    again, checkpoint = Controller.load(tmp_path / "c.ckpt")
    assert torch.equal(again.parameters_flat, controller.parameters_flat)
    assert checkpoint.kind == "controller" and again.facts == {"world": "dream"}
