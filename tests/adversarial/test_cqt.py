"""Constant-Q transform and its discriminator, against nnAudio and what a tone gives."""

from __future__ import annotations

import math

import pytest
import torch
import torchaudio
from nnAudio.features.cqt import CQT2010v2
from torch.nn import functional as F

from adversarial_trainer.adversarial.discriminators.cqt import (
    DiscriminatorCQT,
    MultiScaleSubbandCQTDiscriminator,
)
from adversarial_trainer.modules.cqt import CQT


def nnaudio(rate: int, hop: int, octaves: int, bins: int) -> CQT2010v2:
    """As BigVGAN's discriminators build it."""
    options = {"output_format": "Complex", "pad_mode": "constant", "verbose": False}
    return CQT2010v2(rate, hop, n_bins=octaves * bins, bins_per_octave=bins, **options).double()


@pytest.mark.parametrize(
    "rate, hop, octaves, bins", [(48000, 512, 9, 24), (88200, 256, 9, 48), (32000, 256, 8, 36)]
)
@pytest.mark.parametrize("length", [6001, 300])
def test_equals_nnaudio(rate: int, hop: int, octaves: int, bins: int, length: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 1, length, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    cqt = CQT(rate, hop, octaves, bins)
    assert not cqt.state_dict()
    z, wanted = cqt(ours), nnaudio(rate, hop, octaves, bins)(theirs)
    torch.testing.assert_close(z[:, 0], wanted, rtol=0, atol=1e-5)
    z.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-4)


def test_a_tone_falls_on_its_bin_with_its_amplitude_and_phase() -> None:
    rate, bins, octaves = 8000, 12, 6
    cqt = CQT(rate, 32, octaves, bins).double()
    time = torch.arange(rate).double() / rate
    q = 1 / (2 ** (1 / bins) - 1)
    for k in (71, 59, 40, 12):
        f = 32.7 * 2 ** (k / bins)
        z = torch.view_as_complex(
            cqt(0.5 * torch.cos(2 * math.pi * f * time)[None, None]).contiguous()
        )[0, 0]
        middle = z[:, 125]  # around sample 4000
        assert middle.abs().argmax() == k
        length = math.ceil(q * rate / f)
        assert middle[k].abs() / math.sqrt(length) == pytest.approx(0.25, rel=2e-2)
        # The filters before an octave look ahead by half a sample of each rate.
        sample = 4000 + sum(2**i / 2 for i in range(5 - k // bins))
        angle = torch.tensor(2 * math.pi * f * sample / rate)
        assert torch.angle(middle[k] * torch.exp(-1j * angle)).abs() < 1e-3


def test_impossible_octaves_are_refused_with_what_is_possible() -> None:
    for rate, possible in ((16000, 8), (8000, 7)):
        sizes = {"filters": 2, "hop_lengths": [256], "bins_per_octaves": [36]}
        with pytest.raises(ValueError, match=f"n_octaves=9 .* at most {possible} octaves"):
            MultiScaleSubbandCQTDiscriminator(rate, **sizes)
        MultiScaleSubbandCQTDiscriminator(rate, **sizes, n_octaves=possible)
    with pytest.raises(ValueError, match=r"hop_length .* = 256 for n_octaves=9, got 128"):
        MultiScaleSubbandCQTDiscriminator(24000, 2, hop_lengths=[128], bins_per_octaves=[24])


def test_equals_bigvgans_formula() -> None:
    """discriminators.py: twice the rate, nnAudio's transform, a convolution an octave without norm
    and activation, then EnCodec's layers with a slope of 0.1."""
    torch.manual_seed(0)
    slope = {"activation_params": {"negative_slope": 0.1}}
    sub = DiscriminatorCQT(24000, 3, hop_length=256, bins_per_octave=24, **slope).double()
    x = 0.3 * torch.randn(2, 1, 5000, dtype=torch.float64)
    z = nnaudio(48000, 256, 9, 24)(torchaudio.transforms.Resample(24000, 48000).double()(x))
    z = z.permute(0, 3, 2, 1)  # [B, 2, frames, bins]
    octaves = []
    for i in range(9):
        conv = sub.conv_pres[i].conv
        z_i = z[..., 24 * i : 24 * i + 24]
        octaves.append(F.conv2d(z_i, conv.weight, conv.bias, padding=(1, 4)))
    z = torch.cat(octaves, dim=-1)
    layers = [
        *(((1, 1), (1, 1), (1, 4)), ((1, 2), (1, 1), (1, 4)), ((1, 2), (2, 1), (2, 4))),
        *(((1, 2), (4, 1), (4, 4)), ((1, 1), (1, 1), (1, 1))),
    ]
    logits, fmap = sub(x)
    for block, (stride, dilation, padding), ours in zip(sub.convs, layers, fmap, strict=True):
        weight, bias = block.conv.weight, block.conv.bias
        z = F.leaky_relu(F.conv2d(z, weight, bias, stride, padding, dilation), 0.1)
        torch.testing.assert_close(ours, z, rtol=0, atol=1e-6)
    post = sub.conv_post.conv
    z = F.conv2d(z, post.weight, post.bias, padding=1)
    torch.testing.assert_close(logits, z, rtol=0, atol=1e-6)


@pytest.mark.parametrize("filters, count", [(128, 4_454_304), (32, 286_368)])
def test_parameters_are_bigvgans_and_amphions(filters: int, count: int) -> None:
    disc = MultiScaleSubbandCQTDiscriminator(24000, filters)
    assert sum(p.numel() for p in disc.parameters()) == count
    assert disc.names == ["bins24", "bins36", "bins48"]
    assert not [key for key in disc.state_dict() if "cqt" in key]


def test_loudness_does_not_matter_when_normalized() -> None:
    torch.manual_seed(0)
    sizes = {"hop_lengths": [32], "bins_per_octaves": [12], "n_octaves": 4}
    disc = MultiScaleSubbandCQTDiscriminator(2000, 2, **sizes, normalize_input=True)
    x = 0.1 * torch.randn(2, 1, 400)
    torch.testing.assert_close(disc(x)[0], disc(4 * x + 0.1)[0], rtol=1e-4, atol=1e-5)


def test_transform_is_float32_under_autocast() -> None:
    """Channels are transformed one by one: real parts, then imaginary ones."""
    torch.manual_seed(0)
    cqt, x = CQT(4000, 32, 4, 6), torch.randn(2, 2, 300)
    z = cqt(x)
    assert z.shape == (2, 2, 24, 10, 2)
    torch.testing.assert_close(z[:, 1:], cqt(x[:, 1:]))
    sub = DiscriminatorCQT(2000, 2, 2, hop_length=32, bins_per_octave=6, n_octaves=4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cqt(x), z)
        logits, _ = sub(x)
    assert logits.dtype == torch.bfloat16
    assert torch.equal(cqt(x.bfloat16()), cqt(x.bfloat16().float()))
