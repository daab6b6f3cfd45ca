import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import parametrize

from adversarial_trainer.modules.norm import CONV_NORMALIZATIONS
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder, SEANetResnetBlock

SMALL = dict(dimension=6, n_filters=2, n_residual_layers=1, ratios=[3, 2])  # hop length 6


def pair(**kwargs):
    options = {**SMALL, **kwargs}
    return SEANetEncoder(**options), SEANetDecoder(**options)


@settings(deadline=None, max_examples=30)
@given(
    length=st.integers(1, 50),
    channels=st.integers(1, 2),
    causal=st.booleans(),
    ratios=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    lstm=st.integers(0, 1),
    true_skip=st.booleans(),
    norm=st.sampled_from(CONV_NORMALIZATIONS),
    pad_mode=st.sampled_from(["constant", "reflect", "replicate"]),
)
def test_length_in_is_frames_out(length, channels, causal, ratios, lstm, true_skip, norm, pad_mode):
    causal = causal and norm != "time_group_norm"
    encoder, decoder = pair(
        channels=channels,
        causal=causal,
        ratios=ratios,
        lstm=lstm,
        norm=norm,
        true_skip=true_skip,
        pad_mode=pad_mode,
    )
    hop = math.prod(ratios)
    assert encoder.hop_length == decoder.hop_length == hop and type(hop) is int
    z = encoder(torch.randn(2, channels, length))
    assert z.shape == (2, 6, math.ceil(length / hop))
    y = decoder(z)
    assert y.shape == (2, channels, z.shape[-1] * hop)
    assert y.isfinite().all()


@pytest.mark.parametrize("lstm", [0, 1])
def test_causal_with_zero_padding(lstm):
    """Changing the future changes neither the frames nor the samples before it."""
    encoder, decoder = pair(causal=True, pad_mode="constant", lstm=lstm)
    x = torch.randn(1, 1, 60)
    for start in (1, 6, 23, 59):
        changed = x.clone()
        changed[..., start:] = torch.randn(60 - start)
        before = start // 6  # frames whose last sample comes before `start`
        a, b = encoder(x), encoder(changed)
        torch.testing.assert_close(a[..., :before], b[..., :before])
        assert not torch.allclose(a[..., before:], b[..., before:])
        a, b = decoder(a), decoder(b)
        torch.testing.assert_close(a[..., : 6 * before], b[..., : 6 * before])


def test_receptive_field_of_the_encoder():
    """Counted by hand for causal zero padding."""
    encoder, _ = pair(causal=True, pad_mode="constant", n_residual_layers=3, dilation_base=3)
    x = torch.randn(1, 1, 240, requires_grad=True)
    (grad,) = torch.autograd.grad(encoder(x)[0, :, 30].sum(), x)
    # (kernel - 1) * dilation * step of each layer: first 6; at step 1 blocks 2 * (1 + 3 + 9),
    # stride 2 (kernel 4) 3; at step 2 blocks 2 * 26, stride 3 (kernel 6) 5 * 2; at step 6 last 36.
    field = 1 + 6 + 26 + 3 + 52 + 10 + 36
    seen = grad[0, 0].nonzero()
    assert int(seen.max()) == 30 * 6 + 5
    assert int(seen.max()) - int(seen.min()) + 1 == field


@pytest.mark.parametrize("norm", CONV_NORMALIZATIONS)
def test_gradient_reaches_every_parameter(norm):
    # Several channels everywhere: a group norm over one channel makes its bias useless.
    encoder, decoder = pair(norm=norm, lstm=1, true_skip=False, channels=2, n_filters=8)
    decoder(encoder(torch.randn(2, 2, 40))).square().sum().backward()
    for module in (encoder, decoder):
        for name, p in module.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all(), name
            assert p.grad.abs().sum() > 0, name


def test_true_skip_is_the_input_itself():
    block = SEANetResnetBlock(4)
    for p in block.parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(1, 4, 12)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("disabled", range(5))
def test_disable_norm_outer_blocks(disabled):
    """Counted from the waveform: one first or last convolution, a block per ratio, the rest."""
    for module in pair(norm="weight_norm", disable_norm_outer_blocks=disabled):
        layers = module.model[:: 1 if isinstance(module, SEANetEncoder) else -1]
        convs = [m for layer in layers for m in layer.modules() if hasattr(m, "bias")]
        # Blocks in order from the waveform, by the number of convolutions.
        blocks = [0, 1, 1, 1, 2, 2, 2, 3]
        assert [parametrize.is_parametrized(m) for m in convs] == [n >= disabled for n in blocks]


def test_activations():
    options = dict(SMALL, activation="LeakyReLU", activation_params={"negative_slope": 0.3})
    encoder, decoder = SEANetEncoder(**options), SEANetDecoder(**options, final_activation="Tanh")
    y = decoder(100 * encoder(torch.randn(1, 1, 60)))
    assert y.abs().max() <= 1
    assert isinstance(decoder.model[-1], torch.nn.Tanh)
    assert encoder.model[-2].negative_slope == 0.3
    for name in ("Identity", "PReLU"):
        encoder = SEANetEncoder(**{**SMALL, "ratios": [np.int64(3), 2]}, activation=name)
        assert (
            encoder(torch.randn(1, 1, 60)).shape == (1, 6, 10) and type(encoder.hop_length) is int
        )


@pytest.mark.parametrize("true_skip", [True, False])
@pytest.mark.parametrize("lstm", [0, 1])
def test_activations_in_place_give_the_same(true_skip, lstm):
    x = torch.randn(1, 1, 60)
    outputs, gradients = [], []
    for inplace in (False, True):
        torch.manual_seed(0)
        pair_ = pair(true_skip=true_skip, lstm=lstm, activation_params={"inplace": inplace})
        outputs.append(pair_[1](pair_[0](x)))
        outputs[-1].square().sum().backward()
        gradients.append([p.grad for module in pair_ for p in module.parameters()])
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    "kwargs,message",
    [
        (dict(ratios=[]), "ratios"),
        (dict(ratios=[2, 0]), r"ratios.*\[2, 0\]"),
        (dict(n_filters=0), "n_filters must be an integer >= 1, got 0"),
        (dict(channels=0), "channels"),
        (dict(lstm=-1), "lstm"),
        (dict(activation="Elu"), "'Elu'.*CELU, ELU, GELU"),
        (dict(activation_params={"beta": 1}), "ELU.*beta"),
        (dict(norm="batch"), "'batch'.*none, spectral_norm"),
        (dict(norm="time_group_norm", causal=True), "time_group_norm"),
        (dict(pad_mode="zero"), "'zero'.*constant"),
        (dict(compress=3), r"compress.*\[1, 2\].*3"),
        (dict(compress=0), "compress"),
        (dict(disable_norm_outer_blocks=5), r"disable_norm_outer_blocks.*0\.\.4.*5"),
    ],
)
def test_errors(kwargs, message):
    for cls in (SEANetEncoder, SEANetDecoder):
        with pytest.raises(ValueError, match=message):
            cls(**{**SMALL, **kwargs})


def test_errors_of_one_class():
    with pytest.raises(ValueError, match="trim_right_ratio"):
        SEANetDecoder(**SMALL, trim_right_ratio=0.5)
    with pytest.raises(ValueError, match="final_activation"):
        SEANetDecoder(**SMALL, final_activation_params={"inplace": True})
