"""The CPU's ways to convolve equal torch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adversarial_trainer.adversarial.discriminators.thin_conv import ThinNormConv2d, thin_conv2d

THIN = [
    dict(kernel_size=(3, 9), padding=(1, 4)),
    dict(kernel_size=(5, 3), padding=(2, 1)),
    dict(kernel_size=(1, 1), padding=(0, 0)),
    dict(kernel_size=(3, 5), padding=(0, 1)),
]


def gradients(y, inputs):
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return torch.autograd.grad((y * weight).sum(), inputs)


def spectrogram(channels, width, dtype=torch.float64):
    x = torch.randn(2, channels, 9, width, dtype=dtype).to(memory_format=torch.channels_last)
    return x.requires_grad_()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [12, 13])
@pytest.mark.parametrize("options", THIN)
def test_equals_torch(options, width, bias, monkeypatch):
    layer = ThinNormConv2d(2, 5, bias=bias, **options).double()
    x = spectrogram(2, width)
    inputs = [x, *layer.parameters()]
    calls = []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda *_: calls.append(1))
    y = layer(x)
    assert not calls  # it went the other way
    monkeypatch.undo()
    expected = layer.conv(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(y, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "channels, options",
    [
        (8, dict(kernel_size=(3, 9), padding=(1, 4))),
        (2, dict(kernel_size=(3, 9), stride=(1, 2), padding=(1, 4))),
        (2, dict(kernel_size=(3, 3), dilation=(2, 1), padding=(2, 1))),
        (2, dict(kernel_size=(3, 9), padding=(1, 4), groups=2)),
        (2, dict(kernel_size=(3, 9), padding=(3, 4))),
        (2, dict(kernel_size=(3, 9), padding=(1, 4), padding_mode="circular")),
    ],
)
def test_what_does_not_fit_is_torchs(channels, options):
    layer = ThinNormConv2d(channels, 4, **options)
    x = spectrogram(channels, 13, torch.float32)
    assert torch.equal(layer(x), layer.conv(x))


def test_hooks_are_heard():
    layer = ThinNormConv2d(2, 4, (3, 9), padding=(1, 4))
    layer.conv.register_forward_hook(lambda module, args, out: out * 0)
    assert not layer(spectrogram(2, 13, torch.float32)).any()


def test_thin_gradient_can_be_differentiated():
    """For gradient penalties."""
    weight = torch.randn(3, 2, 3, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    call = lambda *args: thin_conv2d(*args, (1, 2))  # noqa: E731
    assert torch.autograd.gradgradcheck(call, (x, weight, bias))


def test_thin_convolution_under_autocast():
    layer = ThinNormConv2d(2, 8, (3, 9), padding=(1, 4))
    conv, x = layer.conv, spectrogram(2, 33, torch.float32)
    inputs = [x, *conv.parameters()]
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    exact = gradients(F.conv2d(x, conv.weight, conv.bias, padding=(1, 4)), inputs)
    for ours, theirs in zip(gradients(y, inputs), exact, strict=True):
        assert ours.dtype == torch.float32
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.9999


def test_a_forward_put_in_place_is_heard():
    """As `precision=bf16` puts one into layers that the machine computes wrongly."""
    layer = ThinNormConv2d(2, 4, (3, 9), padding=(1, 4))
    layer.conv.forward = lambda x: torch.zeros(1)
    assert not layer(spectrogram(2, 13, torch.float32)).any()
