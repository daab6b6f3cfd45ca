"""Each layer piece by piece is the layer on the whole signal."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import pieces

from adversarial_trainer.modules.activation import AntiAliased
from adversarial_trainer.modules.conv import (
    PAD_MODES,
    StreamableConv1d,
    StreamableConvTranspose1d,
)
from adversarial_trainer.modules.dac import DACDecoder, DACEncoder
from adversarial_trainer.modules.lstm import StreamableLSTM
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder
from adversarial_trainer.modules.streaming import StreamingModule


@torch.no_grad()
def check(layer: StreamingModule, channels: int, length: int, longest: int, seed: int) -> None:
    """Streamed equals whole, for each of two signals, in a buffer that is used again."""
    torch.manual_seed(seed)
    layer = layer.double().eval()
    for run in range(2):
        state = {}
        x = torch.randn(2, channels, length, dtype=torch.float64)
        outputs = []
        for piece in pieces(x, longest, seed + run):
            buffer = piece.clone()
            outputs.append(layer.step(buffer, state, False).clone())
            buffer.fill_(torch.nan)
        outputs.append(layer.step(x[..., :0], state, True))
        torch.testing.assert_close(torch.cat(outputs, -1), layer(x), rtol=1e-11, atol=1e-11)


LENGTHS = dict(length=st.integers(1, 60), longest=st.integers(1, 40), seed=st.integers(0, 99))


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.integers(1, 9),
    stride=st.integers(1, 9),
    dilation=st.integers(1, 3),
    causal=st.booleans(),
    pad_mode=st.sampled_from(PAD_MODES),
    norm=st.sampled_from(["none", "weight_norm", "spectral_norm"]),
    bias=st.booleans(),
    **LENGTHS,
)
def test_convolution(kernel, stride, dilation, causal, pad_mode, norm, bias, length, longest, seed):
    stride = min(stride, (kernel - 1) * dilation + 1) if causal else stride
    options = dict(causal=causal, pad_mode=pad_mode, norm=norm, bias=bias, groups=2)
    conv = StreamableConv1d(2, 4, kernel, stride, dilation, **options)
    check(conv, 2, length, longest, seed)


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.integers(1, 9),
    stride=st.integers(1, 9),
    right=st.sampled_from([None, 0.0, 0.3, 1.0]),
    output_padding=st.booleans(),
    norm=st.sampled_from(["none", "weight_norm"]),
    **LENGTHS,
)
def test_transposed_convolution(kernel, stride, right, output_padding, norm, length, longest, seed):
    options = dict(output_padding=output_padding or length == 1)
    if right is not None:
        options = dict(causal=True, trim_right_ratio=right)
    conv = StreamableConvTranspose1d(2, 3, kernel, min(stride, kernel), norm=norm, **options)
    check(conv, 2, length, longest, seed)


def test_lstm():
    for layers, skip in itertools.product((1, 2), (False, True)):
        # Short pieces and long ones are computed in two ways.
        check(StreamableLSTM(3, layers, skip), 3, 30, 5, seed=layers)
        check(StreamableLSTM(3, layers, skip), 3, 150, 40, seed=layers)


@settings(deadline=None, max_examples=40)
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


@settings(deadline=None, max_examples=30)
@given(name=st.sampled_from(["Snake", "ELU"]), **LENGTHS)
def test_anti_aliased(name, length, longest, seed):
    check(AntiAliased(3, name), 3, length, longest, seed)


@settings(deadline=None, max_examples=20)
@given(
    strides=st.lists(st.integers(2, 5), min_size=1, max_size=3),
    causal=st.booleans(),
    activation=st.sampled_from(["Snake", "AntiAliased"]),
    lstm=st.integers(0, 1),
    output_padding=st.booleans(),
    **LENGTHS,
)
def test_dac(strides, causal, activation, lstm, output_padding, length, longest, seed):
    options = dict(channels=2, dimension=4, n_filters=2, strides=strides, lstm=lstm)
    options.update(causal=causal and activation == "Snake", activation=activation)
    check(DACEncoder(**options), 2, length, longest, seed)
    output_padding = output_padding or options["causal"]
    check(DACDecoder(**options, output_padding=output_padding), 4, length, longest, seed)
