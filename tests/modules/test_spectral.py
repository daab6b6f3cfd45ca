"""Short-time spectra and mel filters against torchaudio, scipy and hand calculation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio
from scipy import signal

from adversarial_trainer.modules.spectral import Spectrogram, mel_filterbank


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize("slaney", [False, True])
@pytest.mark.parametrize(
    "sample_rate,n_fft,n_mels,f_min",
    [(24000, 1024, 64, 64.0), (24000, 64, 64, 64.0), (44100, 2048, 80, 0.0), (8000, 32, 128, 0.0)],
)
def test_filters_are_torchaudios_except_for_the_empty_ones(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, slaney: bool
) -> None:
    """Nothing but the rows that would be zero differs (21 of 64 at n_fft 64)."""
    scale, norm = ("slaney", "slaney") if slaney else ("htk", None)
    theirs = torchaudio.functional.melscale_fbanks(
        n_fft // 2 + 1, f_min, sample_rate / 2, n_mels, sample_rate, norm, scale
    ).T.double()
    ours = mel_filterbank(sample_rate, n_fft, n_mels, f_min, scale=scale, area_norm=slaney)
    empty = (theirs == 0).all(1)
    assert (ours.sum(1) > 0).all() and (ours >= 0).all() and (n_fft > 64 or empty.any())
    torch.testing.assert_close(ours[~empty], theirs[~empty], atol=2e-5, rtol=0)
    if not slaney:  # a widened filter interpolates: two neighbouring weights that sum to one
        assert ours[empty].sum(1) == pytest.approx(1)


@pytest.mark.parametrize("n_fft,hop,win,length", [(256, 64, 256, 700), (512, 50, 240, 300)])
def test_spectrogram_matches_numpy_torchaudio_and_torch(
    n_fft: int, hop: int, win: int, length: int
) -> None:
    """Centred frames: reflect, cut, window (centred in the frame), FFT; by hand in numpy."""
    x = np.random.default_rng(0).standard_normal(length)
    window = np.zeros(n_fft)
    start = (n_fft - win) // 2
    window[start : start + win] = signal.get_window("hann", win)
    padded = np.pad(x, n_fft // 2, mode="reflect")
    frames = np.stack([padded[i : i + n_fft] for i in range(0, len(padded) - n_fft + 1, hop)], 1)
    expected = np.abs(np.fft.rfft(frames * window[:, None], axis=0))
    wave = torch.from_numpy(x)
    ours = Spectrogram(n_fft, hop, win, power=1)(wave).numpy()
    assert ours.shape == expected.shape == (n_fft // 2 + 1, length // hop + 1)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    theirs = torchaudio.transforms.Spectrogram(n_fft, win, hop, power=2, normalized=True).double()
    ours = Spectrogram(n_fft, hop, win, normalize="window")(wave)
    assert torch.allclose(ours, theirs(wave), atol=1e-5)
    spectrum = torch.stft(wave, n_fft, hop, win, torch.hann_window(win).double(), normalized=True,
                          return_complex=True)  # fmt: skip
    ours = Spectrogram(n_fft, hop, win, power=1, normalize="frame")(wave)
    assert torch.allclose(ours, spectrum.abs(), atol=1e-5)


@pytest.mark.parametrize(
    "kwargs", [{"win_length": 65}, {"hop_length": 0}, {"window": "nosuch_window"}, {"power": 3}]
)
def test_bad_parameters(kwargs: dict) -> None:
    with pytest.raises(ValueError, match=str(next(iter(kwargs.values())))):
        Spectrogram(**{"n_fft": 64, "hop_length": 16, **kwargs})
    with pytest.raises(ValueError, match="12000 Hz"):
        mel_filterbank(24000, 512, 40, 0.0, 13000.0)
