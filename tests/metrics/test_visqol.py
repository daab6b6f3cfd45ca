"""ViSQOL through visqol-python: argument order, rates, undefined scores, a missing package."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adversarial_trainer.metrics import ViSQOL

visqol = pytest.importorskip("visqol")


def music(sample_rate: int, seconds: float) -> torch.Tensor:
    """A swelling chord with a little noise, [1, 1, T]."""
    t = torch.arange(int(sample_rate * seconds)) / sample_rate
    tones = sum(torch.sin(2 * math.pi * f * t) for f in (220.0, 277.2, 329.6, 1318.5))
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(0))
    return (0.1 * tones * (1 + torch.sin(2 * math.pi * 3 * t)) / 2 + 0.003 * noise)[None, None]


@pytest.mark.parametrize("mode, levels", [("audio", [0.0, 0.03]), ("speech", [0.0, 0.01, 0.1])])
def test_degraded_scores_less_than_clean(mode: str, levels: list[float]) -> None:
    metric, real = ViSQOL(24000, mode), music(24000, 1.0)  # type: ignore[arg-type]
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(1))
    batch = torch.cat([real + level * noise for level in levels])
    scores = metric(batch, real.expand(len(levels), -1, -1))
    assert scores.shape == (len(levels),)
    assert scores[0] > 4.5 and (scores.diff() < -0.2).all() and (scores >= 1).all()


@pytest.mark.parametrize("mode, rate", [("audio", 48000), ("speech", 16000)])
def test_reference_comes_first_at_the_modes_rate(
    mode: str, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AudioCraft hands over (degraded, reference). Stereo is mixed; errors come through."""
    calls = []

    class Recorder:
        """Stands in for the package's API and keeps what it was given."""

        def create(self, mode: str, use_lattice_model: bool) -> None:
            self.modes = (mode, use_lattice_model)

        def measure_from_arrays(self, ref: np.ndarray, deg: np.ndarray, rate: int) -> object:
            calls.append((*self.modes, ref, deg, rate))
            if len(calls) > 1:
                raise RuntimeError("broken inside")
            return SimpleNamespace(moslqo=3.0)

    monkeypatch.setattr(visqol, "VisqolApi", Recorder)
    metric, real = ViSQOL(24000, mode), music(24000, 1.0)  # type: ignore[arg-type]
    stereo = torch.cat([real, torch.zeros_like(real)], dim=1)
    assert metric(0.5 * stereo, stereo).tolist() == [3.0]
    ((given, lattice, reference, degraded, given_rate),) = calls
    assert (given, lattice, given_rate) == (mode, False, rate)
    assert reference.shape == degraded.shape == (rate,)
    assert np.allclose(reference, 2 * degraded)
    assert np.abs(reference).max() == pytest.approx(float(real.abs().max() / 2), rel=0.02)
    with pytest.raises(RuntimeError, match="broken inside"):
        metric(real, real)


@pytest.mark.parametrize("mode, shortest", [("audio", 0.96), ("speech", 0.64)])
def test_short_and_silent_clips(mode: str, shortest: float) -> None:
    """No score where there is none; the shortest clip allowed has one."""
    metric = ViSQOL(16000, mode)  # type: ignore[arg-type]
    short, real = music(16000, shortest - 0.001), music(16000, shortest)
    for pair in ((short, short), (real[..., :1], real[..., :1]), (real, torch.zeros_like(real))):
        assert metric(*pair).isnan().all()
    assert metric(torch.zeros_like(real), real).tolist() == [1.0]
    assert metric(real, real).item() > 4.5


def test_what_is_missing_or_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'music'.*audio, speech"):
        ViSQOL(16000, "music")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match=r"visqol-python\[lattice\]"):
        ViSQOL(16000, "speech", lattice=True).prepare()
    monkeypatch.setitem(sys.modules, "visqol", None)
    with pytest.raises(ImportError, match="pip install visqol-python"):
        ViSQOL(16000).prepare()
