import pytest
import torch

from worldmodels.memory.mdnrnn import MDNRNN
from worldmodels.types import Posterior, Window


@pytest.fixture
def memory():
    torch.manual_seed(0)
    return MDNRNN(3, 2, hidden_dim=8)


@pytest.fixture
def contexts():
    generator = torch.Generator().manual_seed(0)
    steps = torch.ones(5, 40, dtype=torch.bool)
    return Window(
        Posterior(torch.randn(6, 40, 3, generator=generator), torch.full((6, 40, 3), -20.0)),
        torch.randn(5, 40, 2, generator=generator),
        torch.zeros(5, 40),
        ~steps,
        ~steps,
        steps,
    )
