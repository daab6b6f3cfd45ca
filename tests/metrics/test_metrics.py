"""Metrics against independent calculations, and the properties all of them share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from adversarial_trainer.metrics import METRICS, MelDistance, Metric, SISNRMetric, STFTDistance

FAST = ["sisnr", "mel", "stft"]


def build(name: str) -> Metric:
    return METRICS.build(name, **({"sample_rate": 24000} if name == "mel" else {}))


def pair(length: int = 6000, batch: int = 3, channels: int = 2) -> tuple[torch.Tensor, ...]:
    gen = torch.Generator().manual_seed(0)
    real = 0.3 * torch.randn(batch, channels, length, generator=gen)
    return real, 0.3 * torch.randn(batch, channels, length, generator=gen)


@pytest.mark.parametrize("name", FAST)
def test_per_item_monotone_and_best_for_equal_inputs(name: str) -> None:
    metric, (real, noise) = build(name), pair()
    values = torch.stack([metric(real + level * noise, real) for level in (0.0, 0.01, 0.1, 1.0)])
    assert values.shape == (4, 3)
    worse = values.diff(dim=0) * (-1 if metric.higher_is_better else 1)
    assert (worse > 0).all()
    if not metric.higher_is_better:
        assert (values[0] == 0).all()
    with pytest.raises(ValueError, match=r"\[3, 2, 99\].*\[3, 2, 100\]"):
        metric(real[..., :99], real[..., :100])
    one = metric(real[1:2] + 0.1 * noise[1:2], real[1:2])
    assert torch.allclose(one, values[2, 1:2], rtol=1e-5)  # neighbours do not matter


@pytest.mark.parametrize("name", FAST)
@settings(deadline=None, max_examples=8)
@given(length=st.integers(1, 2000))
def test_any_length_and_silence(name: str, length: int) -> None:
    metric, real = build(name), torch.rand(2, 1, length, requires_grad=True)
    for fake in (torch.zeros(2, 1, length), real):
        for reference in (torch.zeros(2, 1, length), real):
            value = metric(fake, reference)
            assert value.shape == (2,) and value.isfinite().all() and not value.requires_grad


def test_sisnr_of_known_mixtures() -> None:
    t = torch.arange(24000, dtype=torch.float64) / 24000
    tone, other = torch.sin(2 * math.pi * 300 * t), torch.cos(2 * math.pi * 300 * t)
    real = torch.stack([tone, tone, tone])[:, None]
    fake = torch.stack([tone + other, 0.2 * (tone + 0.1 * other) - 0.1, other])[:, None]
    values = SISNRMetric()(fake.float(), real.float())
    assert values[0].item() == pytest.approx(0.0, abs=1e-4)
    assert values[1].item() == pytest.approx(20.0, abs=1e-4)
    assert values[2] < -60  # nothing of the reference is there
    assert SISNRMetric()(real, real).min() > 90
    # All channels are one vector, as for DAC.
    stereo = (torch.cat([x[:1], x[1:2]], 1).float() for x in (fake, real))
    one = fake[:2].flatten(), real[:2].flatten()
    assert SISNRMetric()(*stereo).item() == pytest.approx(
        SISNRMetric()(*(x[None, None].float() for x in one)).item(), abs=1e-4
    )


def magnitudes(x: torch.Tensor, size: int) -> np.ndarray:
    """Centred Hann STFT magnitudes with hop size / 4, in numpy: [C, F, N]."""
    padded = np.pad(x.double().numpy(), ((0, 0), (size // 2, size // 2)), mode="reflect")
    starts = range(0, padded.shape[-1] - size + 1, size // 4)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    frames = np.stack([padded[:, s : s + size] * window for s in starts], -1)
    return np.abs(np.fft.rfft(frames, axis=1))


@pytest.mark.parametrize("rate", [16000, 24000, 44100, 48000])
@pytest.mark.filterwarnings("ignore")
def test_mel_distance_is_dacs(rate: int) -> None:
    """DAC's definition with its constants, on torchaudio's Slaney filters."""
    real, noise = pair(5000, batch=1)
    fake = real + 0.3 * noise
    expected = 0.0
    for size, mels in zip([32, 64, 128, 256, 512, 1024, 2048], [5, 10, 20, 40, 80, 160, 320],
                          strict=True):  # fmt: skip
        fb = torchaudio.functional.melscale_fbanks(
            size // 2 + 1, 0.0, rate / 2, mels, rate, norm="slaney", mel_scale="slaney"
        ).T.numpy()
        logs = [np.log10(np.maximum(fb @ magnitudes(x[0], size), 1e-5)) for x in (fake, real)]
        expected += np.abs(logs[0] - logs[1]).mean()
    assert MelDistance(rate)(fake, real).item() == pytest.approx(expected, rel=1e-4)


def test_stft_distance_is_dacs() -> None:
    real, noise = pair(5000, batch=1)
    fake = real + 0.3 * noise
    expected = 0.0
    for size in (2048, 512):
        mags = [magnitudes(x[0], size) for x in (fake, real)]
        logs = [np.log10(np.maximum(mag, 1e-5) ** 2) for mag in mags]
        expected += np.abs(logs[0] - logs[1]).mean() + np.abs(mags[0] - mags[1]).mean()
    assert STFTDistance()(fake, real).item() == pytest.approx(expected, rel=1e-5)
