"""ELU and reflection in one equal torch's two."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adversarial_trainer.modules.conv import StreamableConv1d
from adversarial_trainer.modules.elu_pad import EluPad, elu_pad, run_layers
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder


def audio(length, channels=3):
    return torch.randn(2, channels, length, dtype=torch.float64, requires_grad=True)


def gradients(y, inputs):
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return torch.autograd.grad((y * weight).sum(), inputs)


@pytest.fixture
def calls(monkeypatch):
    """Paddings of the calls of the fast way."""
    found = []
    apply = EluPad.apply
    monkeypatch.setattr(EluPad, "apply", lambda *args: found.append(args[2:]) or apply(*args))
    return found


@pytest.mark.parametrize("left, right", [(0, 0), (2, 0), (0, 3), (3, 2), (6, 6)])
def test_equals_torch(left, right):
    x = audio(7)
    y, expected = elu_pad(x, 1.3, left, right), F.pad(F.elu(x, 1.3), (left, right), "reflect")
    torch.testing.assert_close(y, expected, rtol=1e-14, atol=0)
    (ours,), (theirs,) = gradients(y, [x]), gradients(expected, [x])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    call = lambda x: elu_pad(x, 1.3, left, right)  # noqa: E731
    assert torch.autograd.gradgradcheck(call, x)


@pytest.mark.parametrize("alpha", [0, 0.5, -0.5])
def test_slopes(alpha, calls):
    """The sign of an ELU's output tells nothing where alpha is below 0."""
    conv = StreamableConv1d(3, 2, 3, pad_mode="reflect", causal=False).double()
    x = audio(7)
    layers = nn.Sequential(nn.ELU(alpha), conv)
    ours, expected = run_layers(layers, x), conv(layers[0](x))
    assert len(calls) == (alpha >= 0)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(ours, [x]), gradients(expected, [x]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", [SEANetEncoder, SEANetDecoder])
def test_networks_equal_their_layers(kind, causal, calls):
    options = dict(n_filters=4, n_residual_layers=2, dimension=5, ratios=[3, 2])
    network = kind(causal=causal, lstm=1, true_skip=False, norm="weight_norm", **options).double()
    x = audio(40, 1) if kind is SEANetEncoder else audio(9, 5)
    inputs = [x, *network.parameters()]
    y = network(x)
    # Two blocks of two layers each, two strided convolutions of the encoder, the last one.
    assert len(calls) == (7 if kind is SEANetEncoder else 5)
    for module in network.modules():  # a hook must be called, so each layer is
        module.register_forward_hook(lambda *_: None)
    expected = network(x)
    assert len(calls) == (7 if kind is SEANetEncoder else 5)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(y, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "elu, options, length",
    [
        (nn.ELU(), {}, 1),  # too short to reflect
        (nn.ELU(), {"pad_mode": "constant"}, 9),
        (nn.ELU(), {"kernel_size": 1}, 9),
        (nn.ELU(inplace=True), {}, 9),
        (nn.LeakyReLU(), {}, 9),
    ],
)
def test_other_layers_are_called(elu, options, length, calls):
    conv = StreamableConv1d(3, 2, **{"kernel_size": 3, **options}).double()
    x = audio(length)
    y = run_layers(nn.Sequential(elu, conv), x * 1)
    torch.testing.assert_close(y, conv(elu(x * 1)))
    assert not calls


def test_layers_in_any_order():
    first, second = nn.ELU(0.5), nn.ELU(2.0)
    conv = StreamableConv1d(3, 3, 3).double()
    x = audio(9)
    for layers in ([first], [first, second], [conv, first, second, conv, second]):
        expected = nn.Sequential(*layers)(x)
        torch.testing.assert_close(run_layers(nn.Sequential(*layers), x), expected)


@pytest.mark.parametrize("hooked", ["sequence", "elu", "conv"])
def test_hooks_are_heard(hooked):
    layers = nn.Sequential(nn.ELU(), StreamableConv1d(3, 2, 3)).double()
    module = {"sequence": layers, "elu": layers[0], "conv": layers[1]}[hooked]
    heard = []
    module.register_full_backward_hook(lambda *_: heard.append("backward"))
    run_layers(layers, audio(9)).sum().backward()
    assert heard == ["backward"]


def test_bfloat16_stays():
    x = torch.randn(2, 3, 50).bfloat16().requires_grad_()
    y = elu_pad(x, 1.0, 2, 1)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, F.pad(F.elu(x), (2, 1), "reflect"))


def test_a_forward_put_in_place_is_called():
    """As torch.compile's is."""
    layers = nn.Sequential(nn.ELU(), StreamableConv1d(3, 2, 3)).double()
    layers.forward = lambda x: x * 0
    for context in (torch.enable_grad, torch.no_grad):
        with context():
            assert not run_layers(layers, audio(9)).any()
