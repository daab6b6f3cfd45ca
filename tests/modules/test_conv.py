import math

import encodec.modules as reference
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from adversarial_trainer.modules.conv import (
    StreamableConv1d,
    StreamableConvTranspose1d,
    pad1d,
)
from adversarial_trainer.modules.lstm import StreamableLSTM

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
quick = settings(deadline=None, max_examples=30)


@quick
@given(
    length=st.integers(1, 40),
    kernel=st.integers(1, 9),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    causal=st.booleans(),
    norm=st.sampled_from(["none", "weight_norm", "time_group_norm"]),
)
def test_conv_equals_the_encodec_package(length, kernel, stride, dilation, causal, norm):
    """With equal weights; inputs shorter than the padding too."""
    stride = min(stride, kernel)
    # The reference pads a strided and dilated convolution too little.
    dilation = dilation if stride == 1 else 1
    if causal and norm == "time_group_norm":
        norm = "none"
    options = dict(stride=stride, dilation=dilation, causal=causal, norm=norm)
    theirs = reference.SConv1d(3, 4, kernel, **options)
    ours = StreamableConv1d(3, 4, kernel, **options)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, length)
    y = ours(x)
    assert y.shape == (2, 4, math.ceil(length / stride))
    torch.testing.assert_close(y, theirs(x), rtol=1e-5, atol=1e-5)


@quick
@given(
    length=st.integers(1, 20),
    kernel=st.integers(1, 9),
    stride=st.integers(1, 4),
    ratio=st.sampled_from([None, 1.0, 0.5, 0.0]),
)
@example(length=3, kernel=5, stride=2, ratio=0.5)  # an odd trim goes to the right
@example(length=3, kernel=5, stride=2, ratio=None)  # and otherwise to the left
def test_conv_transpose_equals_the_encodec_package(length, kernel, stride, ratio):
    stride = min(stride, kernel)
    options = dict(
        causal=ratio is not None,
        trim_right_ratio=1.0 if ratio is None else ratio,
        norm="weight_norm",
    )
    theirs = reference.SConvTranspose1d(3, 4, kernel, stride, **options)
    ours = StreamableConvTranspose1d(3, 4, kernel, stride, **options)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, length)
    y = ours(x)
    assert y.shape == (2, 4, length * stride)
    torch.testing.assert_close(y, theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_pad1d_of_long_inputs_is_torch_pad(mode):
    x = torch.randn(2, 3, 10)
    padded = pad1d(x, (4, 9), mode)
    torch.testing.assert_close(padded, F.pad(x, (4, 9), mode))


def test_errors():
    with pytest.raises(ValueError, match="stride=4.*kernel_size=3"):
        StreamableConv1d(1, 1, 3, stride=4, causal=True)
    with pytest.raises(ValueError, match="stride=4.*kernel_size=3"):
        StreamableConvTranspose1d(1, 1, 3, stride=4)
    with pytest.raises(ValueError, match="trim_right_ratio.*1.5"):
        StreamableConvTranspose1d(1, 1, 4, 2, causal=True, trim_right_ratio=1.5)


@pytest.mark.parametrize("skip", [True, False])
def test_lstm_equals_the_encodec_package(skip):
    theirs = reference.SLSTM(6, num_layers=2, skip=skip)
    ours = StreamableLSTM(6, num_layers=2, skip=skip)
    ours.load_state_dict(theirs.state_dict())
    for length in (1, 13):
        x = torch.randn(3, 6, length)
        torch.testing.assert_close(ours(x), theirs(x))


def test_autocast_keeps_the_precision_of_the_lstms_skip():
    lstm = StreamableLSTM(5)
    x = 100 + torch.randn(1, 5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        try:
            torch.nn.LSTM(5, 5)(x.permute(2, 0, 1))
        except RuntimeError as error:
            pytest.skip(f"torch has no LSTM in bfloat16 for this CPU: {error}")
        y = lstm(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, lstm(x), atol=0.02, rtol=0)
