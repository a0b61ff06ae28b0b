import pytest
import torch
from torch import nn

from worldmodels.vision.networks import (
    FewPlacesConv2d,
    LateBiasConvTranspose2d,
    ShuffledConvTranspose2d,
    VectorToImage,
)


@pytest.mark.parametrize(
    "ours, theirs, sizes, image",
    [
        (FewPlacesConv2d, nn.Conv2d, (5, 7, 4), (6, 6)),
        (FewPlacesConv2d, nn.Conv2d, (5, 7, 4), (9, 7)),
        (VectorToImage, nn.ConvTranspose2d, (5, 7, 5), (1, 1)),
        (ShuffledConvTranspose2d, nn.ConvTranspose2d, (5, 3, 6), (4, 5)),
        (LateBiasConvTranspose2d, nn.ConvTranspose2d, (5, 3, 5), (4, 5)),
    ],
)
def test_layers_equal_torch_s_in_value_and_gradient(ours, theirs, sizes, image):
    torch.manual_seed(0)
    fast, plain = (layer(*sizes, stride=2).double() for layer in (ours, theirs))
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(3, sizes[0], *image, dtype=torch.float64, requires_grad=True)
    found, wanted = fast(x), plain(x)
    assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(wanted)
    gradients = (
        torch.autograd.grad(y, [x, *layer.parameters()], weight) for y, layer in ((found, fast), (wanted, plain))
    )
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)
