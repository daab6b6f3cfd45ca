"""ViSQOL through visqol-python: argument order, rates, undefined scores, a missing package."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adversarial_trainer.metrics import ViSQOL

pytest.importorskip("visqol")


def music(sample_rate: int, seconds: float) -> torch.Tensor:
    """A swelling chord with a little noise, [1, 1, T]."""
    t = torch.arange(int(sample_rate * seconds)) / sample_rate
    tones = sum(torch.sin(2 * math.pi * f * t) for f in (220.0, 277.2, 329.6, 1318.5))
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(0))
    return (0.1 * tones * (1 + torch.sin(2 * math.pi * 3 * t)) / 2 + 0.003 * noise)[None, None]


@pytest.mark.parametrize("mode,rate,levels", [
    ("audio", 24000, [0.0, 0.03]),
    ("speech", 24000, [0.0, 0.01, 0.1]),
])  # fmt: skip
def test_degraded_scores_less_than_clean(mode: str, rate: int, levels: list[float]) -> None:
    metric, real = ViSQOL(rate, mode), music(rate, 1.0)  # type: ignore[arg-type]
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(1))
    batch = torch.cat([real + level * noise for level in levels])
    scores = metric(batch, real.expand(len(levels), -1, -1))
    assert scores.shape == (len(levels),)
    assert scores[0] > 4.5 and (scores.diff() < -0.2).all() and (scores >= 1).all()


class Recorder:
    """Stands in for the package's API and keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[np.ndarray, np.ndarray, int]] = []

    def measure_from_arrays(self, ref: np.ndarray, deg: np.ndarray, rate: int) -> SimpleNamespace:
        self.calls.append((ref, deg, rate))
        return SimpleNamespace(moslqo=3.0)


@pytest.mark.parametrize("mode,rate", [("audio", 48000), ("speech", 16000)])
def test_reference_comes_first_at_the_modes_rate(mode: str, rate: int) -> None:
    """AudioCraft hands over (degraded, reference)."""
    metric = ViSQOL(24000, mode)  # type: ignore[arg-type]
    metric._api = Recorder()
    real = music(24000, 1.0)
    fake = 0.5 * real
    stereo = torch.cat([real, torch.zeros_like(real)], dim=1)
    metric(torch.cat([fake, fake], dim=1), stereo)
    ((reference, degraded, given),) = metric._api.calls
    assert given == rate and reference.shape == degraded.shape == (rate,)
    assert np.allclose(reference, degraded)  # mono mix: half of real, and half of real
    metric(fake, real)
    reference, degraded, _ = metric._api.calls[1]
    assert np.abs(reference).max() == pytest.approx(2 * np.abs(degraded).max())


@pytest.mark.parametrize("mode,shortest", [("audio", 0.96), ("speech", 0.64)])
def test_short_and_silent_clips(mode: str, shortest: float) -> None:
    """No score where there is none; the shortest clip allowed has one."""
    metric = ViSQOL(16000, mode)  # type: ignore[arg-type]
    short, real = music(16000, shortest - 0.001), music(16000, shortest)
    assert metric(short, short).isnan().all()
    assert metric(torch.rand(1, 1, 1), torch.rand(1, 1, 1)).isnan().all()
    assert metric(real, torch.zeros_like(real)).isnan().all()
    assert metric(torch.zeros_like(real), real).tolist() == [1.0]
    assert metric(real, real).item() > 4.5


def test_errors_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors of the package, and how to install it."""
    metric, real = ViSQOL(16000), music(16000, 1.0)

    def fail(*args: object) -> None:
        raise RuntimeError("broken inside")

    metric._api = SimpleNamespace(measure_from_arrays=fail)
    with pytest.raises(RuntimeError, match="broken inside"):
        metric(real, real)
    monkeypatch.setitem(sys.modules, "visqol", None)
    with pytest.raises(ImportError, match="pip install 'visqol-python'"):
        ViSQOL(16000)(real, real)
    with pytest.raises(ValueError, match="'music'.*audio, speech"):
        ViSQOL(16000, "music")  # type: ignore[arg-type]
