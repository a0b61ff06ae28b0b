import pytest
import torch
from corridor import DISCRETE, Corridor

from worldmodels.bodies import MLP, FrameBody, Normalizer, body_of
from worldmodels.errors import UserError
from worldmodels.policy_gradient.a2c import A2C
from worldmodels.policy_gradient.policies import Policy


def test_moments_of_parts_are_those_of_the_whole():
    torch.manual_seed(0)
    whole = 1e3 + torch.randn(60, 7, 3, dtype=torch.float64) * torch.tensor([1.0, 20.0, 0.0])
    normalizer = Normalizer(3)
    assert torch.equal(normalizer(whole[0, 0].float()), whole[0, 0].float().clamp(-10, 10)), "as they are, at first"
    for part in whole.split([1, 4, 15, 40]):
        normalizer.observe(part)
    flat = whole.flatten(0, 1)
    assert torch.allclose(normalizer.mean, flat.mean(0), rtol=1e-12)
    assert torch.allclose(normalizer.squares / normalizer.count, flat.var(0, correction=0), atol=1e-8)
    out = normalizer(flat.float())
    assert torch.allclose(out[:, :2].mean(0), torch.zeros(2), atol=1e-3)
    assert torch.allclose(out[:, :2].std(0), torch.ones(2), atol=2e-3)
    assert (out[:, 2] == 0).all(), "what never changes is not blown up"
    assert normalizer(torch.tensor([1e3, 1e9, 1e3]))[1] == 10


def test_statistics_change_between_rollouts_never_within():
    """π must be the same while it plays and while its gradient is taken."""
    torch.manual_seed(0)
    policy = Policy([4], DISCRETE, hidden=[8], value_hidden=[8], normalize=True)
    learner = A2C(policy, Corridor(), steps=7)
    first = learner.next_batch()
    assert policy.body.count == 0
    second = learner.next_batch()
    assert policy.body.count == 21
    assert torch.allclose(policy.body.mean.float(), first.state.flatten(0, 1).mean(0))
    before = policy.body.mean.clone()
    learner.loss(second)
    assert torch.equal(policy.body.mean, before)


def test_frames_are_not_normalised_twice():
    with pytest.raises(UserError, match=r"policy\.normalize=false"):
        body_of((64, 64, 3), normalize=True)


def test_a_flat_body_is_one_rectified_layer_on_all_pixels():
    torch.manual_seed(0)
    body, features = body_of((4, 5, 2), frame_body="flat")
    frames = torch.randint(0, 256, (3, 2, 4, 5, 2), dtype=torch.uint8)
    out = body(frames)
    assert features == 200 and out.shape == (3, 2, 200)
    weight, bias = body.linear.weight, body.linear.bias
    by_hand = torch.einsum("...i,oi->...o", frames.reshape(3, 2, 40) / 127.5 - 1, weight) + bias
    assert torch.allclose(out, by_hand.clamp(min=0), atol=1e-5)
    with pytest.raises(UserError, match="frame_body"):
        body_of((4, 5, 2), frame_body="round")


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("sizes", [[5, 3], [5, 7, 3], [5, 7, 6, 3]])
@pytest.mark.parametrize("lead", [(4,), (4, 6), ()])
def test_layers_in_one_step_are_torch_s_own(relu, sizes, lead):
    """Outputs and gradients beside the same layers called one after another, in fp64."""
    torch.manual_seed(0)
    network = MLP(sizes, 1.0, relu).double()
    for parameter in network.parameters():
        parameter.data.normal_()
    x = torch.randn(*lead, 5, dtype=torch.float64, requires_grad=True)
    plain = torch.nn.Sequential(*network)
    weight = torch.randn(*lead, 3, dtype=torch.float64)
    parts = [x, *network.parameters()]
    ours = torch.autograd.grad((network(x).sin() * weight).sum(), parts)
    theirs = torch.autograd.grad((plain(x).sin() * weight).sum(), parts)
    assert torch.allclose(network(x), plain(x), atol=1e-14)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    with torch.no_grad():
        assert torch.allclose(network(x), plain(x), atol=1e-14)


def test_layers_in_one_step_under_vmap():
    """A gradient for each row, as the optimal baseline takes them."""
    torch.manual_seed(0)
    network = MLP([5, 7, 3], 1.0)
    plain = torch.nn.Sequential(*network)
    x = torch.randn(6, 4, 5)

    def total(parameters, row, by):
        return torch.func.functional_call(by, parameters, (row,)).square().sum()

    def each(by):
        own = dict(by.named_parameters())
        return torch.vmap(torch.func.grad(total), in_dims=(None, 0, None))(own, x, by)

    for one, other in zip(each(network).values(), each(plain).values(), strict=True):
        assert one.shape[0] == 6 and torch.allclose(one, other, atol=1e-5)


def test_frames_begin_with_orthogonal_layers_and_pixels_within_one():
    """Black is −1, white 1: with every weight of the first layer 1/k and the bias 0, they give −1 (so 0) and 1."""
    torch.manual_seed(0)
    body = FrameBody((64, 64, 3))
    for layer in (body.convolutions[0], body.convolutions[2], body.convolutions[4], body.linear[0]):
        rows = layer.weight.detach().flatten(1)
        rows = rows if rows.shape[0] <= rows.shape[1] else rows.t()
        assert torch.allclose(rows @ rows.t(), 2 * torch.eye(len(rows)), atol=1e-4)
        assert (layer.bias == 0).all()
    first = body.convolutions[0]
    torch.nn.init.constant_(first.weight, 1 / (8 * 8 * 3))
    seen = []
    first.register_forward_hook(lambda layer, given, made: seen.append(made))
    body(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1, 1).expand(2, 5, 64, 64, 3))
    made = seen[0].reshape(2, 5, -1)
    assert torch.allclose(made, torch.tensor([-1.0, 1.0])[:, None, None], atol=1e-5)
