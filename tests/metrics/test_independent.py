"""Metrics against implementations by others: torchmetrics, scipy, pesq, pystoi."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import scipy.signal
import torch

from adversarial_trainer.metrics import METRICS, PESQ, STOI, SISNRMetric

RATE = 16000


def speech(seconds: float = 2.0, rate: int = RATE) -> torch.Tensor:
    """Syllables: a voiced tone with harmonics, formant-shaped, in bursts; `[1, 1, T]`."""
    t = np.arange(int(seconds * rate)) / rate
    pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * t)) / rate
    wav = sum(np.sin(k * pitch) / k for k in range(1, 25))
    for centre, width in ((700, 130), (1220, 170), (2600, 250)):
        r = math.exp(-math.pi * width / rate)
        wav = scipy.signal.lfilter([1], [1, -2 * r * math.cos(2 * math.pi * centre / rate), r * r],
                                   wav)  # fmt: skip
    wav = wav * np.clip(np.sin(2 * np.pi * 2.5 * t) + 0.4, 0, None)
    return torch.from_numpy(0.3 * wav / np.abs(wav).max()).float()[None, None]


def noisy(wav: torch.Tensor, level: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return wav + level * torch.randn(wav.shape, generator=generator)


def test_sisnr_is_torchmetrics_si_sdr() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    reference = torchmetrics.ScaleInvariantSignalDistortionRatio(zero_mean=True)
    real = speech()
    for level in (0.001, 0.02, 0.3):
        fake = 0.7 * noisy(real, level) + 0.05
        expected = reference(fake.double(), real.double()).item()
        assert SISNRMetric(1e-16)(fake, real).item() == pytest.approx(expected, abs=1e-5)


def test_pesq_is_the_packages() -> None:
    package = pytest.importorskip("pesq")
    real = speech()
    values = []
    for level in (0.0, 0.003, 0.03):
        fake = noisy(real, level)
        value = PESQ(RATE)(fake, real).item()
        own = package.pesq(RATE, real[0, 0].double().numpy(), fake[0, 0].double().numpy(), "wb")
        assert value == pytest.approx(own, abs=1e-6)
        values.append(value)
    assert values[0] > 4.6 and values[0] > values[1] > values[2] > 1


def test_pesq_of_other_rates_and_channels() -> None:
    """Resampled to 16 kHz and mixed: nearly what the same sound has at 16 kHz."""
    pytest.importorskip("pesq")
    real = speech(rate=48000)
    band = scipy.signal.butter(8, 7000, fs=48000, output="sos")
    noise = scipy.signal.sosfilt(band, noisy(torch.zeros_like(real), 0.05).numpy())
    pair = real + torch.from_numpy(noise.copy()).float(), real
    value = PESQ(48000)(*pair).item()
    down = [torch.from_numpy(scipy.signal.resample_poly(x, 1, 3, axis=-1)) for x in pair]
    assert value == pytest.approx(PESQ(RATE)(*down).item(), abs=0.05) and value < 4
    stereo = PESQ(48000)(*(torch.cat([x, torch.zeros_like(x)], 1) for x in pair))
    assert stereo.item() == pytest.approx(value, abs=1e-3)  # it does not depend on the level


def test_pesq_of_a_clip_with_more_utterances_than_the_package_has_room_for() -> None:
    """It crashes on the whole of it. Equal pieces have equal scores, so the mean is theirs."""
    pytest.importorskip("pesq")
    piece = speech(20.0)
    pair = noisy(piece, 0.01), piece
    twice = PESQ(RATE)(*(torch.cat([wav] * 2, -1) for wav in pair))
    assert twice.item() == pytest.approx(PESQ(RATE)(*pair).item(), abs=1e-6)


def test_stoi_is_the_packages() -> None:
    package = pytest.importorskip("pystoi")
    real = speech()
    for extended in (False, True):
        values = []
        for level in (0.0, 0.03, 0.3):
            fake = noisy(real, level)
            value = STOI(RATE, extended)(fake, real).item()
            arrays = [x[0, 0].double().numpy() for x in (real, fake)]
            assert value == pytest.approx(package.stoi(*arrays, RATE, extended), abs=1e-6)
            values.append(value)
        assert values[0] == pytest.approx(1) and values[0] > values[1] > values[2]


@pytest.mark.parametrize("name, package, worst", [("pesq", "pesq", 1), ("stoi", "pystoi", 0)])
def test_undefined_and_lowest_scores(
    name: str, package: str, worst: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN without speech, not the package's error or its 1e-5; a batch keeps its other scores."""
    pytest.importorskip(package)
    metric, real = METRICS.build(name, sample_rate=RATE), speech()
    silent = torch.zeros_like(real)
    for length in (1, 160, 3000):
        assert metric(real[..., :length], real[..., :length]).isnan().all()
    scores = metric(torch.cat([real, silent, real]), torch.cat([silent, real, real]))
    assert scores[0].isnan() and scores[2] == metric(real, real)[0]
    assert scores[1].item() == pytest.approx(worst, abs=1e-6) and scores[1] < metric(
        noisy(real, 1), real
    )
    burst = silent.clone()
    burst[..., 16000:17000] = real[..., 1000:2000]  # sound, but too little of it for STOI
    assert name == "pesq" or metric(burst, burst).isnan().all()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        metric.prepare()
