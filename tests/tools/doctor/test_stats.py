"""Statistics of signals whose levels are known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from adversarial_trainer.tools.doctor.stats import FileStats, StatsMeter

RATE = 24_000


def metered(wav: np.ndarray, block: int = 1 << 18) -> FileStats:
    """`wav` is `[C, T]`."""
    file = SimpleNamespace(format="WAV", subtype="FLOAT", samplerate=RATE, channels=len(wav))
    meter = StatsMeter(file)  # type: ignore[arg-type]
    for start in range(0, wav.shape[1], block):
        meter.add(wav[:, start : start + block].T.astype(np.float32, order="C"))
    return meter.result()


def sine(hertz: float, amplitude: float = 1.0, seconds: float = 2.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)[None]


@pytest.mark.parametrize("block", [1 << 18, 2399])
def test_levels(block: int) -> None:
    wav = np.concatenate([sine(100, 0.5), sine(100, 0.5) + 0.1])
    meter = metered(wav, block)
    assert meter.frames == 2 * RATE and meter.peak == pytest.approx(0.6)
    assert meter.rms == pytest.approx(math.sqrt(0.125 + 0.01 / 2), rel=1e-4)
    assert meter.offset == pytest.approx(0.1, abs=1e-4)
    assert meter.silence == meter.clipped == 0


def test_silence_is_where_all_channels_are() -> None:
    wav = np.concatenate([sine(100, 0.5), sine(100, 0.5)])
    wav[0, : RATE // 2] = 0
    assert metered(wav, 1000).silence == 0
    wav[1, : RATE // 2] = 1e-4  # -80 dBFS
    assert metered(wav, 1000).silence == pytest.approx(0.25)
    wav[1, : RATE // 2] = 1e-2  # -40 dBFS
    assert metered(wav, 1000).silence == 0
    assert metered(np.zeros((1, 1234))).silence == 1


def test_clipping_is_runs_at_the_top() -> None:
    clipped = (2 * sine(997)).clip(-1, 1)
    expected = (np.abs(2 * sine(997)) >= 1).mean()  # two thirds
    assert metered(clipped).clipped == pytest.approx(expected, rel=0.01)
    assert metered(np.round(clipped * 32767) / 32768).clipped == pytest.approx(expected, rel=0.01)
    assert metered(clipped, 1001).clipped == pytest.approx(expected, rel=0.05)
    assert metered(0.9 * clipped).clipped == 0
    assert metered(2 * sine(997)).clipped > 0.5  # cannot be stored in integers
    # A full wave, and a click, are not clipped.
    assert metered(sine(50)).clipped == 0
    assert metered(sine(997)).clipped == 0
    click = np.zeros((1, RATE))
    click[0, 100:102] = 1
    assert metered(click).clipped == 0
    click[0, 100:103] = 1
    assert metered(click).clipped == pytest.approx(3 / RATE)
