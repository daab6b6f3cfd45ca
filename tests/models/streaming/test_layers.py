"""Each layer piece by piece is the layer on the whole signal."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import pieces
from torch import nn

from adversarial_trainer.models.streaming.layers import (
    LAYERS,
    NotStreamable,
    StreamingLayer,
    WholeSignalNeeded,
    streaming_layer,
)
from adversarial_trainer.modules.conv import (
    PAD_MODES,
    StreamableConv1d,
    StreamableConvTranspose1d,
)
from adversarial_trainer.modules.lstm import StreamableLSTM
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder, SEANetResnetBlock


@torch.no_grad()
def check(module: nn.Module, channels: int, length: int, longest: int, seed: int) -> None:
    """Streamed equals whole, twice in a row, and outputs come neither late nor early."""
    torch.manual_seed(seed)
    module = module.double().eval()
    layer = streaming_layer(module, "module")
    for run in range(2):
        x = torch.randn(2, channels, length, dtype=torch.float64)
        expected = module(x)
        seen, outputs = 0, []
        for piece in pieces(x, longest, seed + run):
            outputs.append(layer.step(piece, False))
            seen += piece.shape[-1]
            left = sum(y.shape[-1] for y in outputs)
            assert left == 0 or layer.needed(left) <= seen
            assert layer.needed(left + 1) > seen
        outputs.append(layer.step(x[..., :0], True))
        torch.testing.assert_close(torch.cat(outputs, -1), expected, rtol=1e-11, atol=1e-11)
        layer.reset()


LENGTHS = dict(length=st.integers(1, 60), longest=st.integers(1, 40), seed=st.integers(0, 99))


@settings(deadline=None, max_examples=200)
@given(
    kernel=st.integers(1, 9),
    stride=st.integers(1, 9),
    dilation=st.integers(1, 3),
    causal=st.booleans(),
    pad_mode=st.sampled_from(PAD_MODES),
    norm=st.sampled_from(["none", "weight_norm", "spectral_norm", "layer_norm"]),
    bias=st.booleans(),
    **LENGTHS,
)
@pytest.mark.filterwarnings("ignore:StreamableConv1d with stride")
def test_convolution(kernel, stride, dilation, causal, pad_mode, norm, bias, length, longest, seed):
    stride = min(stride, (kernel - 1) * dilation + 1)
    options = dict(causal=causal, pad_mode=pad_mode, norm=norm, bias=bias, groups=2)
    conv = StreamableConv1d(2, 4, kernel, stride, dilation, **options)
    check(conv, 2, length, longest, seed)


@settings(deadline=None, max_examples=100)
@given(
    kernel=st.integers(1, 9),
    stride=st.integers(1, 9),
    right=st.sampled_from([None, 0.0, 0.3, 1.0]),
    norm=st.sampled_from(["none", "weight_norm", "layer_norm"]),
    **LENGTHS,
)
def test_transposed_convolution(kernel, stride, right, norm, length, longest, seed):
    options = {} if right is None else dict(causal=True, trim_right_ratio=right)
    conv = StreamableConvTranspose1d(2, 3, kernel, min(stride, kernel), norm=norm, **options)
    check(conv, 2, length, longest, seed)


def test_lstm():
    for layers, skip in itertools.product((1, 2), (False, True)):
        # Short pieces and long ones are computed in two ways.
        check(StreamableLSTM(3, layers, skip), 3, 30, 5, seed=layers)
        check(StreamableLSTM(3, layers, skip), 3, 150, 40, seed=layers)


@settings(deadline=None, max_examples=60)
@given(
    causal=st.booleans(),
    pad_mode=st.sampled_from(PAD_MODES),
    true_skip=st.booleans(),
    kernels=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    dilation=st.integers(1, 4),
    **LENGTHS,
)
def test_residual_block(causal, pad_mode, true_skip, kernels, dilation, length, longest, seed):
    block = SEANetResnetBlock(
        4, kernels, [dilation] * len(kernels), causal=causal, pad_mode=pad_mode, true_skip=true_skip
    )
    check(block, 4, length, longest, seed)


@settings(deadline=None, max_examples=60)
@given(
    ratios=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    causal=st.booleans(),
    pad_mode=st.sampled_from(PAD_MODES),
    true_skip=st.booleans(),
    lstm=st.integers(0, 2),
    residuals=st.integers(0, 2),
    trim=st.sampled_from([0.0, 0.5, 1.0]),
    **LENGTHS,
)
def test_seanet(ratios, causal, pad_mode, true_skip, lstm, residuals, trim, length, longest, seed):
    options = dict(
        channels=2,
        dimension=4,
        n_filters=2,
        n_residual_layers=residuals,
        ratios=ratios,
        norm="weight_norm",
        causal=causal,
        pad_mode=pad_mode,
        true_skip=true_skip,
        lstm=lstm,
    )
    check(SEANetEncoder(**options), 2, length, longest, seed)
    trim = trim if causal else 1.0
    decoder = SEANetDecoder(**options, trim_right_ratio=trim, final_activation="Tanh")
    check(decoder, 4, length, longest, seed)


def test_what_cannot_stream_is_named():
    conv = nn.Sequential(nn.ELU(), nn.Conv1d(1, 1, 3))
    with pytest.raises(NotStreamable, match=r"encoder\.1: cannot stream a Conv1d.*Streamable"):
        streaming_layer(conv, "encoder")
    seanet = SEANetEncoder(n_filters=2, dimension=4, ratios=[2], norm="time_group_norm")
    with pytest.raises(WholeSignalNeeded, match=r"encoder\.model\.0: GroupNorm averages"):
        streaming_layer(seanet, "encoder")
    with pytest.raises(NotStreamable, match=r"block\.block\.0: ELU\(.*inplace"):
        block = SEANetResnetBlock(4, activation_params={"inplace": True})
        streaming_layer(block, "block")

    class LookingAhead(StreamableConv1d):
        pass

    with pytest.raises(NotStreamable, match="LookingAhead"):
        streaming_layer(LookingAhead(1, 1, 3), "x")


def test_another_layer_can_be_added(monkeypatch):
    class Gain(nn.Module):
        def forward(self, x):
            return 2 * x

    monkeypatch.setitem(LAYERS, Gain, StreamingLayer)
    check(nn.Sequential(Gain(), StreamableConv1d(1, 1, 3)), 1, 10, 3, seed=0)


@torch.no_grad()
def test_the_input_may_be_overwritten():
    """As a sound card's callback does with its buffer."""
    conv = StreamableConv1d(1, 1, 5, pad_mode="reflect")
    layer = streaming_layer(conv, "conv")
    x = torch.randn(1, 1, 40)
    buffer = torch.empty(1, 1, 2)
    outputs = []
    for start in range(0, 40, 2):
        buffer.copy_(x[..., start : start + 2])
        outputs.append(layer.step(buffer, False))
    outputs.append(layer.step(buffer[..., :0], True))
    torch.testing.assert_close(torch.cat(outputs, -1), conv(x))
