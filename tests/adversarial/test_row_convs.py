"""Convolutions as matrix products equal torch's."""

import pytest
import torch
from torch.nn import functional as F

from adversarial_trainer.adversarial import MultiPeriodDiscriminator
from adversarial_trainer.adversarial.discriminators.row_convs import (
    ColumnNormConv2d,
    RowNormConv1d,
    row_conv,
)


def leaf(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def reference(x, weight, bias, stride, padding, groups=1):
    y = F.conv1d(x.transpose(1, 2), weight, bias, stride, padding, groups=groups)
    return y.transpose(1, 2)


@pytest.mark.parametrize("groups, bias", [(1, True), (1, False), (2, True)])
@pytest.mark.parametrize("items", [0, 1, 3])
@pytest.mark.parametrize("rows", [1, 2, 10, 11, 12])
@pytest.mark.parametrize(
    "taps, stride, padding", [(5, 3, 2), (5, 1, 2), (3, 1, 1), (5, 3, 4), (1, 3, 0), (3, 5, 1)]
)
def test_equals_torch(taps, stride, padding, rows, items, groups, bias):
    x, weight, shift = leaf(items, rows, 3 * groups), leaf(4, 3, taps), leaf(4) if bias else None
    inputs = [x, weight, *([shift] if bias else [])]
    y, expected = (f(x, weight, shift, stride, padding, groups) for f in (row_conv, reference))
    assert y.shape == expected.shape
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(y)
    ours, theirs = (torch.autograd.grad(out, inputs, grad) for out in (y, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_gradient_can_be_differentiated():
    """For gradient penalties."""
    inputs = leaf(2, 7, 2), leaf(4, 1, 5), leaf(4)
    assert torch.autograd.gradgradcheck(lambda *args: row_conv(*args, 3, 2, 2), inputs)


def test_under_autocast():
    inputs = leaf(2, 40, 8, dtype=torch.float32), leaf(16, 8, 5, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = row_conv(*inputs, None, 3, 2)
    assert y.dtype == torch.bfloat16
    grad = torch.randn(y.shape)
    ours = torch.autograd.grad(y, inputs, grad.to(y.dtype))
    theirs = torch.autograd.grad(reference(*inputs, None, 3, 2), inputs, grad)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float32
        assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.9999


@pytest.mark.parametrize("norm", ["weight_norm", "layer_norm", "time_group_norm"])
def test_period_discriminator_equals_its_convolutions(norm, monkeypatch):
    """All the maps of the discriminator, with its layers as torch does them."""
    if norm == "layer_norm":  # cannot stand behind one channel of logits
        options = dict(out_channels=2)
    else:
        options = dict(out_channels=1)
    mpd = MultiPeriodDiscriminator(periods=[3], filters=2, max_filters=8, norm=norm, **options)
    (disc,) = mpd.double().discriminators
    audio = leaf(2, 1, 100)
    logits, maps = disc(audio)
    monkeypatch.setattr(ColumnNormConv2d, "convolve", lambda layer, x: layer.conv(x))
    expected, expected_maps = disc(audio)
    for a, b in zip([logits, *maps], [expected, *expected_maps], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    inputs = [audio, *disc.parameters()]
    for a, b in zip(
        torch.autograd.grad(logits.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        assert (a - b).norm() <= 1e-10 * b.norm().clamp_min(1)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda: RowNormConv1d(4, 6, 5, stride=2, padding=2, groups=2), (2, 4, 11)),
        (lambda: ColumnNormConv2d(4, 6, (5, 1), stride=(3, 1), padding=(2, 0)), (2, 4, 11, 3)),
    ],
)
def test_layers_go_by_products_and_hooks_are_heard(layer, shape, monkeypatch):
    layer, x = layer(), torch.randn(shape)
    expected = layer.conv(x)
    monkeypatch.setattr(type(layer.conv), "forward", lambda *_: 1 / 0)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    monkeypatch.undo()
    layer.conv.register_forward_hook(lambda module, args, out: out * 0)
    assert not layer(x).any()


@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda: RowNormConv1d(4, 6, 3, padding=4), (2, 4, 11)),
        (lambda: RowNormConv1d(4, 6, 3, padding=2, dilation=2), (2, 4, 11)),
        (lambda: RowNormConv1d(4, 6, 3, padding="same"), (2, 4, 11)),
        (lambda: RowNormConv1d(4, 6, 3, padding=1, padding_mode="replicate"), (2, 4, 11)),
        (lambda: ColumnNormConv2d(4, 6, (5, 3), padding=(2, 1)), (2, 4, 11, 3)),
        (lambda: ColumnNormConv2d(4, 6, (5, 1), stride=(1, 2)), (2, 4, 11, 3)),
    ],
)
def test_what_does_not_fit_is_torchs(layer, shape):
    layer, x = layer(), torch.randn(shape)
    assert torch.equal(layer(x), layer.conv(x))
