"""Convolutions with the channels innermost are the usual ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adversarial_trainer.modules import layout
from adversarial_trainer.modules.conv import pad1d
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("channels", "out", "kernel", "stride", "dilation", "groups"),
    [
        (1, 8, 7, 1, 1, 1),
        (8, 1, 7, 1, 1, 1),
        (8, 16, 1, 1, 1, 1),
        (8, 16, 1, 2, 1, 1),
        (8, 6, 3, 1, 4, 1),
        (8, 16, 10, 5, 1, 1),
        (8, 4, 3, 1, 1, 4),
    ],
)
@torch.no_grad()
def test_conv1d(
    batch: int, channels: int, out: int, kernel: int, stride: int, dilation: int, groups: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, channels, 61)
    weight, bias = torch.randn(out, channels // groups, kernel), torch.randn(out)
    args = (weight, bias, stride)
    expected = F.conv1d(x.double(), weight.double(), bias.double(), stride, 0, dilation, groups)
    for given in (x, layout.channels_last(x)):
        found = layout.conv1d(given, *args, dilation, groups)
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
        assert found.shape[1] == 1 or layout.is_channels_last(found)
    again = layout.conv1d(x, layout.inference_weight(weight), bias, stride, dilation, groups)
    torch.testing.assert_close(again.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 3])
@torch.no_grad()
def test_conv_transpose1d(stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 17), torch.randn(8, 5, 6)
    added = torch.randn(5) if bias else None
    found = layout.conv_transpose1d(x, weight, added, stride)
    wide = None if added is None else added.double()
    expected = F.conv_transpose1d(x.double(), weight.double(), wide, stride)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    assert layout.is_channels_last(found)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
@pytest.mark.parametrize("paddings", [(3, 0), (0, 2), (4, 5), (8, 8)])
def test_padding_is_exact(mode: str, paddings: tuple[int, int]) -> None:
    x = torch.randn(2, 4, 9)
    found = pad1d(layout.channels_last(x), paddings, mode)
    assert torch.equal(found, F.pad(x, paddings, mode))
    assert layout.is_channels_last(found)
    filled = pad1d(layout.channels_last(x), paddings, "constant", 2.5)
    assert torch.equal(filled, F.pad(x, paddings, "constant", 2.5))


OPTIONS = {
    "EnCodec": {"norm": "weight_norm", "causal": True, "true_skip": False, "lstm": 2},
    "48 kHz": {"norm": "time_group_norm", "channels": 2, "true_skip": False},
    "AudioCraft": {"norm": "weight_norm", "n_residual_layers": 3, "lstm": 1},
    "layer norm": {"norm": "layer_norm", "causal": True, "disable_norm_outer_blocks": 1},
    "zeros": {"causal": True, "pad_mode": "constant", "activation": "ReLU"},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("length", [1, 101])
def test_models_without_gradients_are_those_with(name: str, length: int) -> None:
    torch.manual_seed(0)
    options = {"n_filters": 4, "dimension": 8, "ratios": [3, 2], **OPTIONS[name]}
    encoder, decoder = SEANetEncoder(**options).eval(), SEANetDecoder(**options).eval()
    x = torch.randn(2, options.get("channels", 1), length)
    z = encoder(x)
    y = decoder(z.detach())
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            for found, expected in ((encoder(x), z), (decoder(z), y)):
                close = (found - expected).abs().max() / expected.abs().max()
                assert close < 1e-5 and found.shape == expected.shape


def test_only_where_it_pays() -> None:
    x = torch.randn(1, 4, 9)
    assert not layout.pays(x)
    with torch.no_grad():
        assert layout.pays(x) and not layout.pays(x.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert not layout.pays(x)


@pytest.mark.parametrize("paddings", [(2, 0), (0, 3), (4, 5), (8, 8)])
@pytest.mark.parametrize("innermost", [True, False])
@torch.no_grad()
def test_elu_with_its_padding(paddings: tuple[int, int], innermost: bool) -> None:
    x = torch.randn(2, 3, 9)
    given = layout.channels_last(x) if innermost else x.clone()
    found = layout.elu_pad(given, 0.7, *paddings)
    torch.testing.assert_close(found, F.pad(F.elu(x, 0.7), paddings, "reflect"))
    assert layout.is_channels_last(found) and torch.equal(given, x)


@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True), (False, False)])
@torch.no_grad()
def test_sum_of_pointwise_convolutions(biases: tuple[bool, bool]) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 6, 9), layout.channels_last(torch.randn(2, 3, 9))
    to_x, to_y = nn.Conv1d(6, 6, 1, bias=biases[0]), nn.Conv1d(3, 6, 1, bias=biases[1])
    before = x.clone(), y.clone()
    found = layout.add_pointwise(x, y, to_x, to_y)
    torch.testing.assert_close(found, to_x(x) + to_y(y))
    assert (
        layout.is_channels_last(found) and torch.equal(x, before[0]) and torch.equal(y, before[1])
    )
