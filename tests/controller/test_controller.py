import pytest
import torch

from worldmodels.controller.cmaes import evolve, fitness
from worldmodels.controller.networks import Controller
from worldmodels.errors import UserError
from worldmodels.types import Step

BOX = {"type": "box", "low": [-1.0, 0.0], "high": [1.0, 3.0]}


class Target:
    """One state; the reward of an action is minus its squared distance from (0.5, 1). 2 + place % 2 steps each."""

    state_shape, action_space, frames_per_step = (2,), BOX, 1

    def __init__(self, batch=6):
        self.batch = batch

    def reset(self):
        self.t = 0
        return torch.ones(self.batch, 2)

    def step(self, action):
        self.t += 1
        reward = -((action - torch.tensor([0.5, 1.0])) ** 2).sum(-1)
        ended = self.t >= 2 + torch.arange(self.batch) % 2
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


@pytest.mark.parametrize("batch", [2, 6, 50])
def test_fitness_is_the_mean_return_whatever_the_batch(batch):
    controller = Controller([2], BOX)
    parameters = torch.randn(5, controller.count, generator=torch.Generator().manual_seed(0))
    scores, played = fitness(Target(batch), controller, parameters, episodes=4, max_steps=10)
    for member in range(5):
        action = controller.act_population(parameters[member : member + 1], torch.ones(1, 1, 2))[0, 0]
        once = -((action - torch.tensor([0.5, 1.0])) ** 2).sum().item()
        # four episodes in places of alternating parity: two of 2 steps and two of 3
        assert scores[member].item() == pytest.approx(2.5 * once, rel=1e-5)
    assert played >= 5 * 4 * 2


def test_evolution_finds_the_target():
    controller = Controller([2], BOX)
    generations = list(evolve(Target(32), controller, 40, population=16, episodes=2, sigma=0.5, max_steps=5, seed=0))
    assert generations[-1].best > -1e-3 > generations[0].mean
    assert torch.allclose(controller.act(torch.ones(1, 2))[0], torch.tensor([0.5, 1.0]), atol=0.02)
    again = Controller([2], BOX)
    assert list(evolve(Target(32), again, 3, 16, 2, 0.5, 5, seed=0)) == generations[:3], "one seed, same numbers"


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
