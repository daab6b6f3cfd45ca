"""Ours equals torch's."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from adversarial_trainer.modules.norm import apply_parametrization_norm

LAYERS = {
    "conv1d": lambda: nn.Conv1d(3, 4, 5),
    "grouped": lambda: nn.Conv1d(4, 4, 5, groups=2),
    "conv2d": lambda: nn.Conv2d(2, 5, (3, 2)),
    "transposed": lambda: nn.ConvTranspose1d(3, 4, 6, 2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_equals_torch(name):
    plain = LAYERS[name]().double()
    torch.manual_seed(0)
    ours = apply_parametrization_norm(copy.deepcopy(plain), "spectral_norm")
    torch.manual_seed(0)
    theirs = parametrizations.spectral_norm(copy.deepcopy(plain))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    channels = plain.in_channels
    x = torch.randn(2, channels, 9, *([8] if name == "conv2d" else []), dtype=torch.float64)
    for layer in (ours, theirs):
        first, second = layer(x), layer(2 * x)  # each moves the vectors, as of fake and real
        (first.square().mean() + second.sin().mean()).backward()
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-13, atol=0)
    for (key, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-11, atol=1e-14, msg=key)


def test_its_gradient_can_be_differentiated():
    """For gradient penalties."""
    layer = apply_parametrization_norm(nn.Conv1d(2, 3, 4).double(), "spectral_norm").eval()
    norm = layer.parametrizations["weight"][0]
    weight = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, weight)
    assert torch.autograd.gradgradcheck(norm, weight)
