"""Short-time spectra and mel filters against torchaudio, scipy and hand calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchaudio
from scipy import signal

from adversarial_trainer.modules.spectral import MelSpectrogram, Spectrogram, mel_filterbank


@pytest.mark.parametrize("sample_rate", [8000, 24000, 48000])
def test_no_mel_filter_is_empty(sample_rate: int) -> None:
    """At n_fft 64 and 24 kHz, 21 of 64 plain triangles are all zeros."""
    for n_mels, f_min in ((64, 64.0), (128, 0.0)):
        for exponent in range(5, 12):
            filters = mel_filterbank(sample_rate, 2**exponent, n_mels, f_min)
            assert (filters.sum(1) > 0).all() and (filters >= 0).all()
    for i in range(7):  # DAC's scales
        filters = mel_filterbank(sample_rate, 32 * 2**i, 5 * 2**i, scale="slaney", area_norm=True)
        assert (filters.sum(1) > 0).all()


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize("slaney", [False, True])
@pytest.mark.parametrize(
    "sample_rate,n_fft,n_mels,f_min",
    [(24000, 1024, 64, 64.0), (24000, 64, 64, 64.0), (44100, 2048, 80, 0.0)],
)
def test_filters_are_torchaudios_except_for_the_empty_ones(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, slaney: bool
) -> None:
    """Nothing but the rows that would be zero differs."""
    scale, norm = ("slaney", "slaney") if slaney else ("htk", None)
    theirs = torchaudio.functional.melscale_fbanks(
        n_fft // 2 + 1, f_min, sample_rate / 2, n_mels, sample_rate, norm, scale
    ).T.double()
    ours = mel_filterbank(sample_rate, n_fft, n_mels, f_min, scale=scale, area_norm=slaney)
    empty = (theirs == 0).all(1)
    if n_fft == 64 and not slaney:
        assert empty.sum() == 21
    torch.testing.assert_close(ours[~empty], theirs[~empty], atol=2e-5, rtol=0)
    if not slaney:  # a widened filter interpolates: two neighbouring weights that sum to one
        assert ours[empty].sum(1) == pytest.approx(1)


def test_a_widened_filter_sees_a_tone_at_its_centre() -> None:
    """A low tone moves the low rows of the smallest scale."""
    t = torch.arange(4800) / 24000
    mel = MelSpectrogram(24000, 64, 16, n_mels=64, f_min=64.0)
    energy = mel(0.5 * torch.sin(2 * math.pi * 150 * t)).mean(-1)
    assert (energy[:6] > 0.5 * energy.max()).all()  # all of these are empty in torchaudio's
    assert (energy[40:] < 1e-3 * energy.max()).all()


@pytest.mark.parametrize("n_fft,hop,win,length", [(256, 64, 256, 700), (512, 50, 240, 300)])
def test_spectrogram_matches_numpy(n_fft: int, hop: int, win: int, length: int) -> None:
    """Centred frames: reflect, cut, window (centred in the frame), FFT; by hand in numpy."""
    x = np.random.default_rng(0).standard_normal(length)
    window = np.zeros(n_fft)
    start = (n_fft - win) // 2
    window[start : start + win] = signal.get_window("hann", win)
    padded = np.pad(x, n_fft // 2, mode="reflect")
    frames = np.stack([padded[i : i + n_fft] for i in range(0, len(padded) - n_fft + 1, hop)], 1)
    expected = np.abs(np.fft.rfft(frames * window[:, None], axis=0))
    ours = Spectrogram(n_fft, hop, win, power=1)(torch.from_numpy(x)).numpy()
    assert ours.shape == expected.shape == (n_fft // 2 + 1, length // hop + 1)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_normalisations_are_torchaudios_and_torchs() -> None:
    x = torch.randn(2, 1, 4000)
    theirs = torchaudio.transforms.Spectrogram(512, hop_length=128, power=2, normalized=True)(x)
    assert torch.allclose(Spectrogram(512, 128, normalize="window")(x), theirs, atol=1e-5)
    theirs = torch.stft(x[:, 0], 512, 128, window=torch.hann_window(512), normalized=True,
                        return_complex=True).abs()  # fmt: skip
    ours = Spectrogram(512, 128, power=1, normalize="frame")(x)[:, 0]
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("length", [1, 31, 400])
@pytest.mark.parametrize("n_fft, hop", [(64, 16), (16, 40), (128, 7)])
@pytest.mark.parametrize("padding", ["same", "center"])
def test_any_length_works(length: int, n_fft: int, hop: int, padding: str) -> None:
    x = torch.rand(2, 3, length, requires_grad=True)
    out = Spectrogram(n_fft, hop, padding=padding)(x)
    frames = math.ceil(length / hop) if padding == "same" else length // hop + 1
    assert out.shape == (2, 3, n_fft // 2 + 1, frames)
    out.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_full_precision_under_autocast_and_float64_stays() -> None:
    """Half precision never reaches the transform."""
    x = torch.randn(1, 1, 2000)
    mel = MelSpectrogram(24000, 256, 64, n_mels=40)
    exact = mel(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mel(x), exact)
    assert mel(x.bfloat16()).dtype == torch.float32
    assert mel(x.double()).dtype == torch.float64
    assert len(mel.state_dict()) == 0


def test_gradient_of_silence_is_finite() -> None:
    for power in (1, 2):
        x = torch.zeros(1, 1, 300, requires_grad=True)
        Spectrogram(64, 16, power=power)(x).sum().backward()
        assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize(
    "kwargs", [{"win_length": 65}, {"hop_length": 0}, {"window": "nosuch_window"}, {"power": 3}]
)
def test_bad_parameters(kwargs: dict) -> None:
    with pytest.raises(ValueError, match=str(next(iter(kwargs.values())))):
        Spectrogram(**{"n_fft": 64, "hop_length": 16, **kwargs})
    with pytest.raises(ValueError, match="12000 Hz"):
        mel_filterbank(24000, 512, 40, 0.0, 13000.0)
