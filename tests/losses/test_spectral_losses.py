"""Mel, multi-scale mel and STFT losses, and SI-SNR: references, invariants, edge cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchaudio

from adversarial_trainer.losses import (
    LOSSES,
    SISNR,
    MelSpectrogramL1Loss,
    MRSTFTLoss,
    MultiResolutionMelLoss,
    MultiScaleMelSpectrogramLoss,
    StereoSTFTLoss,
    STFTLoss,
)
from adversarial_trainer.modules.lapped import LappedTransform, mdct_basis
from adversarial_trainer.modules.weighting import AWeighting

NEEDS_RATE = {"mel", "msmel", "msspec", "sisnr"}


def build(name: str) -> torch.nn.Module:
    params = {"per_item": True} if name in ("mrstft", "stereo_stft") else {}
    return LOSSES.build(name, **params, **({"sample_rate": 24000} if name in NEEDS_RATE else {}))


def pair(length: int = 4000, batch: int = 3, channels: int = 2) -> tuple[torch.Tensor, ...]:
    gen = torch.Generator().manual_seed(0)
    real = 0.3 * torch.randn(batch, channels, length, generator=gen, dtype=torch.float64)
    noise = 0.1 * torch.randn(batch, channels, length, generator=gen, dtype=torch.float64)
    return real + noise, real


@pytest.mark.parametrize("name", LOSSES)
def test_mean_over_items_that_grows_with_the_noise(name: str) -> None:
    """Splitting a batch changes nothing, so N ranks equal one."""
    loss, (fake, real) = build(name), pair()
    levels = [0.0, 0.01, 0.1, 1.0]
    values = [loss(real + level * (fake - real), real).item() for level in levels]
    assert values == sorted(values) and values[0] < values[1]
    assert values[0] == 0 or name == "sisnr"
    fake = fake * torch.tensor([1.0, 0.1, 2.0])[:, None, None]  # items of different levels
    parts = torch.stack([loss(fake[i : i + 1], real[i : i + 1]) for i in range(3)])
    assert loss(fake, real).shape == () and loss(fake, real).dtype == torch.float64
    assert torch.allclose(loss(fake, real), parts.mean(), rtol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("length", [1, 2, 63, 700])
def test_any_length_gives_finite_gradients(name: str, length: int) -> None:
    loss = build(name)
    for real in (torch.zeros(1, 1, length), torch.rand(1, 1, length)):
        for scale in (0.0, 1.0):
            fake = (scale * torch.rand(1, 1, length)).requires_grad_()
            value = loss(fake, real)
            value.backward()
            assert value.isfinite() and fake.grad is not None and fake.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"l1", "l2"}))
def test_precision_under_autocast_and_shapes(name: str) -> None:
    """The value does not change under bfloat16 autocast."""
    loss, (fake, real) = build(name), pair()
    fake, real = fake.float(), real.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(fake, real)
    assert value.dtype == torch.float32
    assert torch.allclose(value, loss(fake, real), rtol=1e-6)
    with pytest.raises(ValueError, match=r"\[2, 100\].*\[2, 1, 100\]"):
        loss(torch.zeros(2, 100), torch.zeros(2, 1, 100))


def framed(x: torch.Tensor, size: int, hop: int) -> torch.Tensor:
    """Windowed power spectra of AudioCraft's framing, ceil(T / hop) frames, by hand."""
    side = (size - hop) // 2
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (side, side)), mode="reflect")
    count = math.ceil(x.shape[-1] / hop)
    padded = np.pad(padded, ((0, 0), (0, 0), (0, (count - 1) * hop + size - padded.shape[-1])))
    frames = np.stack([padded[..., i * hop : i * hop + size] for i in range(count)], -1)
    window = torch.hann_window(size, dtype=torch.float64).numpy()
    spectrum = np.fft.rfft(frames * window[:, None], axis=-2)
    return torch.from_numpy(np.abs(spectrum) ** 2)


@pytest.mark.parametrize("normalized", [False, True])
def test_msspec_is_encodecs_formula(normalized: bool) -> None:
    """Scales without empty filters, against numpy framing and torchaudio's filters; other arguments
    are AudioCraft's defaults."""
    fake, real = pair(3001)
    expected, total = 0.0, 0.0
    for size in (512, 1024):
        fb = torchaudio.functional.melscale_fbanks(size // 2 + 1, 0.0, 12000, 32, 24000).double()
        norm = torch.hann_window(size, dtype=torch.float64).square().sum() if normalized else 1
        mels = [(framed(x, size, size // 4).mT @ fb).mT / norm for x in (fake, real)]
        logs = [torch.log10(1e-5 + mel) for mel in mels]
        alpha = math.sqrt(size - 1)
        expected += (mels[0] - mels[1]).abs().mean() + alpha * (logs[0] - logs[1]).pow(2).mean()
        total += 1 + alpha if normalized else 0
    params = {"normalized": True} if normalized else {}
    loss = MultiScaleMelSpectrogramLoss(24000, 9, 11, n_mels=32, **params)
    assert torch.allclose(loss(fake, real), expected / (total or 1), rtol=1e-5)
    loss = MultiScaleMelSpectrogramLoss(24000, 9, 11, normalized=True, alphas=False)
    assert loss.alphas == [1.0, 1.0] and loss.total == 4.0


# What publications add to the defaults, and the same as torchaudio's arguments and a logarithm.
MELS = {
    "dac": ({}, {"norm": "slaney", "mel_scale": "slaney"}, lambda mel: mel.clamp(1e-5).log10()),
    "vocos": (
        {"n_mels": [100], "win_lengths": [1024], "mel_scale": "htk", "area_norm": False}
        | {"clamp_eps": 1e-7, "log_weight": math.log(10)},
        {},
        lambda mel: mel.clamp(1e-7).log(),
    ),
}


@pytest.mark.parametrize("name", MELS)
@pytest.mark.parametrize("rate", [24000, 44100])
def test_msmel_is_the_published_formula(name: str, rate: int) -> None:
    params, options, log = MELS[name]
    loss = MultiResolutionMelLoss(rate, **params)
    expected = torch.zeros((), dtype=torch.float64)
    counts = [loss.mels[i].filters.shape[0] for i in range(len(loss.mels))]
    assert counts == params.get("n_mels", [5, 10, 20, 40, 80, 160, 320])
    fake, real = pair(3001)
    for count, mel in zip(counts, loss.mels, strict=True):
        size = mel.spectrogram.n_fft
        reference = torchaudio.transforms.MelSpectrogram(
            rate, size, hop_length=size // 4, n_mels=count, power=1, **options
        ).double()
        theirs = [reference(x) for x in (fake, real)]
        expected += (log(theirs[0]) - log(theirs[1])).abs().mean()
    assert torch.allclose(loss(fake, real), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"n_mels": [5]}, r"n_mels and win_lengths need one entry for each"),
        ({"n_mels": [5], "win_lengths": [30]}, r"win_lengths must be multiples of 4, got \[30\]"),
        ({"clamp_eps": 0}, "clamp_eps must be > 0, got 0"),
    ],
)
def test_wrong_resolutions_of_msmel_are_named(params: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiResolutionMelLoss(24000, **params)


@pytest.mark.parametrize("log", [True, False])
def test_mel_l1_is_torchaudios(log: bool) -> None:
    fake, real = pair(2048)
    transform = torchaudio.transforms.MelSpectrogram(
        24000, 1024, hop_length=256, n_mels=80, center=False
    ).double()
    mels = [transform(torch.nn.functional.pad(x, (384, 384), mode="reflect")) for x in (fake, real)]
    if log:
        mels = [torch.log10(mel + 1e-5) for mel in mels]
    expected = (mels[0] - mels[1]).abs().mean()
    assert torch.allclose(MelSpectrogramL1Loss(24000, log=log)(fake, real), expected, rtol=1e-5)


def test_stft_loss_is_parallel_wavegans_formula() -> None:
    fake, real = pair(2000)
    fake[0] *= 3
    window = torch.hann_window(600, dtype=torch.float64)

    def mags(x: torch.Tensor) -> torch.Tensor:
        return torch.stft(x.flatten(0, 1), 1024, 120, 600, window, return_complex=True).abs()

    def formula(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        convergence = (mags(real) - mags(fake)).norm() / mags(real).norm()
        return 0.3 * convergence + 0.7 * (mags(real).log() - mags(fake).log()).abs().mean()

    loss = STFTLoss(factor_sc=0.3, factor_mag=0.7)  # AudioCraft's: one norm over the batch
    assert torch.allclose(loss(fake, real), formula(fake, real), rtol=1e-5)
    items = [formula(fake[i : i + 1], real[i : i + 1]) for i in range(3)]
    loss = STFTLoss(factor_sc=0.3, factor_mag=0.7, per_item=True)
    assert torch.allclose(loss(fake, real), torch.stack(items).mean(), rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_device_follows(name: str) -> None:
    """Nothing stays on the CPU, and nothing waits for the device ('meta' has no
    values, so that `.item()` or a branch on one would raise)."""
    loss = build(name).to("meta")
    fake = torch.zeros(2, 1, 3000, device="meta", requires_grad=True)
    value = loss(fake, torch.zeros(2, 1, 3000, device="meta"))
    value.backward()
    assert value.is_meta and fake.grad is not None


def test_mrstft_resolutions() -> None:
    fake, real = pair()
    one = STFTLoss(512, 50, 240)
    assert torch.allclose(MRSTFTLoss([512] * 2, [50] * 2, [240] * 2)(fake, real), one(fake, real))
    with pytest.raises(ValueError, match="one entry for each"):
        MRSTFTLoss(n_ffts=(512, 256))


@pytest.mark.parametrize("segment", [None, 20, 0.01])
def test_sisnr_of_a_known_mixture(segment: float | None) -> None:
    """segment=None works. Tone plus orthogonal tone at -20 dB, any gain and offset."""
    t = torch.arange(24000, dtype=torch.float64) / 24000
    tone, other = torch.sin(2 * math.pi * 300 * t), torch.cos(2 * math.pi * 300 * t)
    real = tone.expand(2, 1, -1)
    fake = 0.5 + 3.0 * (tone + 0.1 * other).expand(2, 1, -1)
    value = SISNR(24000, segment=segment, epsilon=1e-12)(fake, real)
    assert value.item() == pytest.approx(-20.0, abs=1e-6)


def test_sisnr_segments_cover_the_end() -> None:
    """Noise in the last samples alone is heard by the last segment."""
    real = torch.randn(1, 1, 1050, dtype=torch.float64)
    fake = real.clone()
    fake[..., 1040:] = 0
    loss = SISNR(1000, segment=0.1, overlap=0.5)
    assert loss(fake, real) > loss(real, real) + 1.0


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_weighting_is_the_standards_curve(rate: int) -> None:
    """IEC 61672-1's closed formula, where 101 taps resolve it; and tones come out at that level."""
    hz = torch.tensor([500.0, 1000.0, 2000.0, 4000.0], dtype=torch.float64)
    f2 = hz.square()
    formula = 12194**2 * f2.square() / (f2 + 12194**2) / (f2 + 20.6**2)
    formula = formula / ((f2 + 107.7**2) * (f2 + 737.9**2)).sqrt()
    expected = 20 * formula.log10() + 2.0
    tones = torch.sin(2 * math.pi * hz[:, None] * torch.arange(4000) / rate)[:, None]
    middle = AWeighting(rate)(tones)[:, 0, 200:-200]
    assert middle.shape == (4, 3600)
    levels = 10 * (2 * middle.square().mean(-1)).log10()
    assert torch.allclose(levels, expected, atol=0.5)


# Of stable-audio 2.0, and auraloss' names for them.
RESOLUTIONS = {
    "n_ffts": [2048, 512, 32],
    "hop_lengths": [512, 128, 8],
    "win_lengths": [2048, 512, 32],
}
AURALOSS = {
    {"n_ffts": "fft_sizes", "hop_lengths": "hop_sizes"}.get(key, key): value
    for key, value in RESOLUTIONS.items()
}


@pytest.mark.parametrize("weighted", [True, False])
def test_stft_losses_are_auralosss(weighted: bool) -> None:
    """Mono and stereo; auraloss takes norms of the whole batch."""
    auraloss = pytest.importorskip("auraloss").freq
    options = {"factor_sc": 1, "factor_mag": 1, "epsilon": 0, "floor": 1e-8, "sample_rate": 44100}
    ours = {**RESOLUTIONS, **options, "a_weighting": weighted}
    theirs = {**AURALOSS, "perceptual_weighting": weighted, "sample_rate": 44100}
    fake, real = (x.float() for x in pair(5000))
    each = auraloss.MultiResolutionSTFTLoss(**theirs)
    both = auraloss.SumAndDifferenceSTFTLoss(**theirs)
    assert torch.allclose(MRSTFTLoss(**ours)(fake, real), each(fake, real), rtol=1e-5)
    expected = both(fake, real) + sum(
        each(fake[:, c : c + 1], real[:, c : c + 1]) / 2 for c in range(2)
    )
    stereo = StereoSTFTLoss(**ours)
    assert torch.allclose(stereo(fake, real), expected, rtol=1e-5)
    mono = fake[:, :1], real[:, :1]
    assert torch.allclose(stereo(*mono), each(*mono), rtol=1e-5)
    with pytest.raises(ValueError, match="stereo_stft is for 1 or 2 channels, got 3"):
        stereo(torch.zeros(1, 3, 99), torch.zeros(1, 3, 99))


def test_stft_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="floor must be > 0, got 0"):
        MRSTFTLoss(floor=0)
    with pytest.raises(ValueError, match="a_weighting needs a sample_rate"):
        MRSTFTLoss(a_weighting=True)


def test_l2_is_the_squared_distance_of_mdct_coefficients() -> None:
    """MDCTCodec's loss, by the transform's orthonormality, where the signals end in a frame of
    zeros."""
    transform = LappedTransform(mdct_basis(40)[0], 40, multiple=40).double()
    fake, real = pair(4000, channels=1)
    fake[..., :40] = real[..., :40] = fake[..., -40:] = real[..., -40:] = 0
    expected = (transform(fake) - transform(real)).square().mean()
    torch.testing.assert_close(LOSSES.build("l2")(fake, real), expected, rtol=1e-6, atol=0)
