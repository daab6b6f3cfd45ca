"""Multi-resolution discriminator, against formulas written out here, and the common level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adversarial_trainer.adversarial import MultiPeriodDiscriminator
from adversarial_trainer.adversarial.discriminators.base import normalize_level
from adversarial_trainer.adversarial.discriminators.mrd import (
    MultiResolutionDiscriminator,
    ResolutionDiscriminator,
)

DAC = {"activation_params": {"negative_slope": 0.1}, "normalize_input": True}
# BigCodec's (config/model/default.yaml, module/mstft.py), with fewer filters.
BIGCODEC = {
    **{"bands": [[0, 1]], "magnitude": True, "padding": "center"},
    **{"filters": 2, "filters_scale": 2, "max_filters": 16, "kernel_sizes": [[5, 5], [3, 3]]},
    **{"strides": [[2, 2]] * 4, "activation_params": {"negative_slope": 0.2}},
}


def convolve(x: Tensor, conv: nn.Conv2d, stride: Sequence[int] = (1, 1)) -> Tensor:
    """A convolution with weight norm and its padding, from its parameters."""
    weights = dict(conv.named_parameters())
    v = weights["parametrizations.weight.original1"]
    norm = v.square().sum((1, 2, 3), keepdim=True).sqrt()
    weight = weights["parametrizations.weight.original0"] * v / norm
    padding = [size // 2 for size in v.shape[2:]]
    return F.conv2d(x, weight, weights["bias"], stride=stride, padding=padding)


def dac(sub: ResolutionDiscriminator, audio: Tensor, size: int) -> list[Tensor]:
    """Feature maps and logits of DAC's discriminator of window length `size` on mono audio.

    Frames by their definition: frame k starts 3/8 of a window before sample k * size / 4 of the
    signal, which is mirrored at both ends; ceil(T / hop) of them.
    """
    x = audio[:, 0] - audio[:, 0].mean(-1, keepdim=True)
    x = 0.8 * x / (x.abs().max(-1, keepdim=True).values + 1e-9)
    hop, length = size // 4, x.shape[-1]
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(size).double() / size)
    frames = []
    for k in range(math.ceil(length / hop)):
        at = torch.arange(k * hop - 3 * size // 8, k * hop + 5 * size // 8).abs()
        at = length - 1 - (length - 1 - at).abs()
        frames.append(torch.fft.rfft(x[:, at] * window))
    z = torch.stack(frames, dim=1)  # [B, frames, bins]
    z = torch.stack([z.real, z.imag], dim=1)
    edges = [int(share * (size // 2 + 1)) for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
    maps, outputs = [], []
    for i in range(5):
        y = z[..., edges[i] : edges[i + 1]]
        for j, stride in enumerate([(1, 1), (1, 2), (1, 2), (1, 2), (1, 1)]):
            y = F.leaky_relu(convolve(y, sub.band_convs[i][j].conv, stride), 0.1)
            maps.append(y)
        outputs.append(y)
    return [*maps, convolve(torch.cat(outputs, dim=-1), sub.conv_post.conv)]


@pytest.mark.parametrize("length", [2048, 3001])
def test_equals_dacs_formula(length: int) -> None:
    """Feature maps, logits and the gradient of the audio, in double precision."""
    torch.manual_seed(0)
    disc = MultiResolutionDiscriminator(filters=8, **DAC).double()
    x = 0.2 * torch.randn(2, 1, length, dtype=torch.float64) + 0.03
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    logits, fmaps = disc(ours)
    assert disc.names == ["fft2048", "fft1024", "fft512"]
    for sub, size, out, maps in zip(
        disc.discriminators, (2048, 1024, 512), logits, fmaps, strict=True
    ):
        sub.window = torch.hann_window(size, dtype=torch.float64)  # not rounded to float32
        ours_now = sub(ours)
        wanted = dac(sub, theirs, size)
        assert len(maps) == len(wanted) == 26
        for a, b in zip([*ours_now[1], ours_now[0]], [*wanted, wanted[-1]], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=3e-8)  # DAC adds 1e-9 to the peak
        torch.testing.assert_close(out, wanted[-1], rtol=1e-5, atol=1e-5)
        ours_now[0].square().mean().backward()
        wanted[-1].square().mean().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)


def test_sizes_are_the_papers() -> None:
    """DAC's 42.5 M parameters are three of these and five of MPD's; and BigCodec's widths."""
    disc = MultiResolutionDiscriminator(**DAC)
    counts = [sum(p.numel() for p in d.parameters()) for d in disc.discriminators]
    assert counts == [471_330] * 3
    big = ResolutionDiscriminator(64, **BIGCODEC | {"filters": 32, "max_filters": 512})
    convs = [layer.conv for layer in [*big.band_convs[0], big.conv_post]]
    assert [c.out_channels for c in convs] == [32, 64, 128, 256, 512, 1]
    assert [c.kernel_size for c in convs] == [(5, 5)] * 4 + [(3, 3)] * 2
    assert [c.stride for c in convs] == [(2, 2)] * 4 + [(1, 1)] * 2


@pytest.mark.parametrize("length", [1000, 1024])
def test_equals_bigcodecs_formula(length: int) -> None:
    """Magnitudes of torch.stft's centred frames, all bins as one band, strides in both directions,
    filters doubled by each convolution."""
    torch.manual_seed(0)
    sub = ResolutionDiscriminator(128, **BIGCODEC).double()
    sub.window = torch.hann_window(128, dtype=torch.float64)
    x = 0.1 * torch.randn(2, 1, length, dtype=torch.float64)
    z = torch.stft(x[:, 0], 128, 32, window=sub.window, return_complex=True)
    z = z.abs().square().clamp(1e-7, 1e3).sqrt().transpose(1, 2)[:, None]
    assert z.shape[2] == length // 32 + 1
    logits, fmap = sub(x)
    for conv, ours in zip(sub.band_convs[0], fmap, strict=False):
        z = F.leaky_relu(convolve(z, conv.conv, conv.conv.stride), 0.2)
        torch.testing.assert_close(ours, z, rtol=0, atol=1e-10)
    torch.testing.assert_close(logits, convolve(z, sub.conv_post.conv), rtol=0, atol=1e-10)
    assert len(fmap) == 6 and fmap[-1] is logits


def test_each_band_sees_its_own_frequencies() -> None:
    """A tone moves the maps of its band, and those of no other one."""
    torch.manual_seed(0)
    sub = ResolutionDiscriminator(512, bands=[[0, 0.25], [0.25, 0.5], [0.5, 1]]).double()
    time = torch.arange(4096).double()
    silent = sub(torch.zeros(1, 1, 4096).double())[1]
    for cycles, band in ((10, 0), (96, 1), (200, 2)):  # in a window of 512 samples
        maps = sub(torch.sin(2 * math.pi * cycles * time / 512)[None, None])[1]
        for i in range(3):  # in frames without a mirrored part
            moved = (maps[5 * i] - silent[5 * i])[:, :, 3:-3].abs().max()
            assert moved > 1 if i == band else moved < 1e-6


def test_stereo_and_bands_with_gaps() -> None:
    torch.manual_seed(0)
    disc = MultiResolutionDiscriminator(in_channels=2, n_ffts=[64], bands=[[0.5, 0.75], [0, 0.1]])
    z = disc.discriminators[0].represent(torch.randn(3, 2, 100))
    assert z.shape == (3, 4, 7, 33)
    logits, fmaps = disc(torch.randn(3, 2, 100))
    assert logits[0].shape == (3, 1, 7, 2)  # 8 of 33 bins, then 3, divided by 8
    assert [m.shape[-1] for m in fmaps[0]] == [8, 4, 2, 1, 1, 3, 2, 1, 1, 1, 2]


# The common level.


def gain(x: Tensor) -> Tensor:
    return (normalize_level(x).abs().amax() / x.abs().amax()).detach()


def test_level_is_dacs_for_audio() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 1, 1000, dtype=torch.float64) * torch.tensor([1.0, 0.1, 1e-3])[:, None, None]
    ours, theirs = (x + 0.01).requires_grad_(), (x + 0.01).requires_grad_()
    y = theirs - theirs.mean(-1, keepdim=True)
    wanted = 0.8 * y / (y.abs().max(-1, keepdim=True).values + 1e-9)
    torch.testing.assert_close(normalize_level(ours), wanted, rtol=1e-6, atol=1e-6)
    direction = torch.randn_like(x)
    (normalize_level(ours) * direction).sum().backward()
    (wanted * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    assert torch.equal(wanted.mean(-1).abs() < 1e-12, torch.ones(3, 1, dtype=torch.bool))


def test_level_keeps_the_balance_of_channels() -> None:
    x = torch.tensor([[[1.0, -1.0, 1.0, -1.0], [0.1, -0.1, 0.1, -0.1]]])
    torch.testing.assert_close(normalize_level(x), 0.8 * x)


@pytest.mark.parametrize("value", [0.0, 0.3, 1e-9])
def test_silence_has_a_bounded_value_and_gradient(value: float) -> None:
    """DAC's gradient is 8e8 there."""
    x = torch.full((1, 1, 1000), value, dtype=torch.float64, requires_grad=True)
    y = normalize_level(x)
    assert y.abs().max() < 1e-9
    for weights in (torch.randn(1000), torch.ones(1000), torch.eye(1000)[0]):
        (grad,) = torch.autograd.grad((y[0, 0] * weights).sum(), x, retain_graph=True)
        assert grad.norm() <= 801 * weights.norm()


def test_dither_is_not_raised_to_full_scale() -> None:
    torch.manual_seed(0)
    step = 2**-15
    dither = (torch.rand(1, 1, 4000) - torch.rand(1, 1, 4000)).round() * step  # 0 and +-1 steps
    y = normalize_level(dither)
    assert 0.02 < y.abs().max() < 0.03
    assert gain(0.9e-3 * torch.sin(torch.arange(1000.0))[None, None]) < 801


@pytest.mark.parametrize("disc", [MultiPeriodDiscriminator, MultiResolutionDiscriminator])
def test_loudness_and_offset_do_not_matter_when_normalized(disc: type[nn.Module]) -> None:
    torch.manual_seed(0)
    options = {"periods": [3]} if disc is MultiPeriodDiscriminator else {"n_ffts": [128]}
    plain, level = (disc(filters=2, **options, normalize_input=flag) for flag in (False, True))
    level.load_state_dict(plain.state_dict())
    x = 0.1 * torch.randn(1, 1, 500)
    torch.testing.assert_close(level(x)[0], level(3 * x + 0.2)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(level(x)[0], plain(normalize_level(x))[0])
    with pytest.raises(ValueError, match="time >= 1"):
        level(x[..., :0])
