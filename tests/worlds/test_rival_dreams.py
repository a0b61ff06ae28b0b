"""Dreams that several M's of one V have a say in."""

import torch

from worldmodels.memory.mdnrnn import MDNRNN
from worldmodels.types import MemoryState
from worldmodels.worlds.dream_world import DreamWorld
from worldmodels.worlds.rival_dreams import DoubtedDream, EnsembleDream

BOX = {"type": "box", "low": [-1.0, -1.0], "high": [1.0, 1.0]}

# a dream that is doubted


def test_what_the_models_disagree_upon_costs(memory, contexts):
    """Two M's: the deviation of the two means that they expect is half their distance. Dreams of two steps."""
    torch.manual_seed(1)
    rival = MDNRNN(3, 2, hidden_dim=5)
    options = {"batch": 16, "horizon": 2, "terminates": False}
    plain = DreamWorld(memory, contexts, BOX, **options)
    alike = DoubtedDream(memory, contexts, BOX, rivals=[memory], doubt=3.0, **options)
    doubted = DoubtedDream(memory, contexts, BOX, rivals=[rival], doubt=3.0, **options)
    action = torch.randn(16, 2, generator=torch.Generator().manual_seed(2))
    for world in (plain, alike, doubted):
        world.reset()
    never = torch.zeros(16, dtype=torch.bool)
    for number in range(5):
        before = doubted.dream
        if number % 2 == 0:  # they begin: each stands at the end of a context, which all M's have seen
            pick = torch.cdist(before.z, contexts.observation.mean[-1]).argmin(1)
            seen = contexts.observation.mean[:-1, pick], contexts.action[:, pick], contexts.first[:, pick]
            states = [network(*seen)[1] for network in (memory, rival)]
        states = [
            network.step(before.z, action, never, state) for network, state in zip((memory, rival), states, strict=True)
        ]
        expected = []
        for network, state in zip((memory, rival), states, strict=True):
            mixture = network.predict(state.h).next_z
            expected.append((torch.softmax(mixture.logits, -1) * mixture.mean).sum(-1))
        penalty = 3.0 * ((expected[0] - expected[1]).abs() / 2).mean(-1)
        wanted = plain.step(action)
        assert torch.equal(alike.step(action).reward, wanted.reward)
        step = doubted.step(action)
        assert torch.equal(step.next_state, wanted.next_state), "the dream itself is the same"
        assert torch.allclose(step.reward, wanted.reward - penalty, atol=1e-5) and (penalty > 0.01).all()


# a dream that several M's share


def test_each_m_of_an_ensemble_dreams_its_share(memory, contexts):
    """Dreams 0, 2, … are M's own, 1, 3, … its rival's, both with M's h beside them; dreams of two steps."""
    torch.manual_seed(1)
    rival = MDNRNN(3, 2, hidden_dim=5)
    for network in (memory, rival):  # the likeliest component and no noise: what comes next can be worked out
        with torch.no_grad():
            network.heads.bias[: network.mixtures * 3].view(network.mixtures, 3)[1:] = -200.0
            network.heads.bias[2 * network.mixtures * 3 : -2] = -200.0
    options = {"batch": 17, "horizon": 2, "terminates": False}
    world = EnsembleDream(memory, contexts, BOX, rivals=[rival], **options)
    world.reset()
    action = torch.randn(17, 2, generator=torch.Generator().manual_seed(2))
    never = torch.zeros(17, dtype=torch.bool)
    models = (memory, rival)
    for number in range(5):
        before = world.dream
        if number % 2 == 0:
            pick = torch.cdist(before.z, contexts.observation.mean[-1]).argmin(1)
            seen = contexts.observation.mean[:-1, pick], contexts.action[:, pick], contexts.first[:, pick]
            states = [network(*seen)[1] for network in models]
        states = [network.step(before.z, action, never, state) for network, state in zip(models, states, strict=True)]
        step = world.step(action)
        assert torch.allclose(step.next_state[:, 3:], states[0].h, atol=1e-5), "h is M's in each dream"
        for rank, (network, state) in enumerate(zip(models, states, strict=True)):
            predicted = network.predict(state.h)
            assert torch.allclose(step.next_state[rank::2, :3], predicted.next_z.mean[rank::2, ..., 0], atol=1e-2)
            assert torch.allclose(step.reward[rank::2], predicted.reward[rank::2], atol=1e-5)


def test_a_rival_s_state_begins_anew_with_its_own_dreams_alone(memory, contexts):
    """Of 17 dreams M's first rival has numbers 1, 4, …, 16 and its second 2, 5, …, 14; 4, 5 and 6 end."""
    world = EnsembleDream(memory, contexts, BOX, rivals=[memory, memory], batch=17, horizon=3)
    world.reset()
    following, starts = world.dream, world.starts
    following = following._replace(rival_states=tuple(MemoryState(h + 1, c + 2) for h, c in following.rival_states))
    ended = torch.zeros(17, dtype=torch.bool)
    ended[4:7] = True
    begun = world._begun_anew(ended, starts, following).rival_states
    for states in zip(following.rival_states, starts.rival_states, begun, strict=True):
        for old, new, found in zip(*states, strict=True):
            wanted = old.clone()
            wanted[1] = new[1]  # dream 4 of the first, 5 of the second; 6 is M's own
            assert torch.equal(found, wanted) and not torch.equal(old, new)


def test_an_ensemble_of_one_m_is_the_plain_dream(memory, contexts):
    options = {"batch": 16, "horizon": 3}
    worlds = [
        DreamWorld(memory, contexts, BOX, **options),
        EnsembleDream(memory, contexts, BOX, rivals=[memory], **options),
    ]
    action = torch.randn(16, 2, generator=torch.Generator().manual_seed(2))
    plain, shared = ([world.reset(), *(part for _ in range(7) for part in world.step(action))] for world in worlds)
    for one, other in zip(plain, shared, strict=True):
        assert torch.allclose(one.float(), other.float(), atol=1e-5)
