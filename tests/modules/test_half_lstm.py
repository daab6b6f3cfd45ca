"""The LSTM of training in bfloat16."""

import pytest
import torch
from torch import nn

from adversarial_trainer.modules import half_lstm
from adversarial_trainer.modules.half_lstm import LSTMLayer
from adversarial_trainer.modules.lstm import StreamableLSTM


def gradients(y, inputs, dtype=torch.float64):
    weight = torch.linspace(-1, 1, y.numel(), dtype=dtype).view_as(y)
    return torch.autograd.grad((y * weight).sum(), inputs)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_layer_equals_torchs(steps):
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 3).double()
    x = torch.randn(steps, 2, 5, dtype=torch.float64, requires_grad=True)
    inputs = [x, *lstm.parameters()]
    expected, _ = lstm(x)
    bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
    y = LSTMLayer.apply(x, lstm.weight_ih_l0, lstm.weight_hh_l0, bias)
    torch.testing.assert_close(y, expected, rtol=1e-13, atol=1e-14)
    for ours, theirs in zip(gradients(y, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("skip", [True, False])
def test_bfloat16_is_no_less_exact_than_torchs(skip):
    torch.manual_seed(0)
    layer = StreamableLSTM(64, 2, skip)
    x = torch.randn(2, 64, 40, requires_grad=True)
    inputs = [x, *layer.parameters()]

    def half():
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)

    def errors(y):
        pairs = zip([y, *gradients(y, inputs, torch.float32)], exact, strict=True)
        return [((a - b).norm() / b.norm()).item() for a, b in pairs]

    expected = layer(x)
    exact = [expected, *gradients(expected, inputs, torch.float32)]
    ours = half()
    layer.lstm.register_forward_hook(lambda *_: None)  # then torch's own
    for our_error, theirs in zip(errors(ours), errors(half()), strict=True):
        assert 1e-5 < our_error < 1.1 * theirs < 0.05


def test_only_training_in_bfloat16_takes_it(monkeypatch):
    called = []
    run = half_lstm.run_half
    monkeypatch.setattr(half_lstm, "run_half", lambda *args: called.append(1) or run(*args))
    layer, x = StreamableLSTM(8), torch.randn(1, 8, 5)
    layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            layer(x)
        assert not called
        layer(x)
        assert called
