"""Meters against signals whose levels, spectra and frames are known."""

import math

import numpy as np
import pytest

from adversarial_trainer.tools.doctor.levels import LevelMeter
from adversarial_trainer.tools.doctor.spectrum import HOP, Frames

RATE = 24_000


def metered(wav: np.ndarray, block: int = 1 << 18) -> LevelMeter:
    """`wav` is `[C, T]`."""
    meter = LevelMeter(RATE, len(wav))
    for start in range(0, wav.shape[1], block):
        meter.add(wav[:, start : start + block].astype(np.float32))
    meter.finish()
    return meter


def sine(hertz: float, amplitude: float = 1.0, seconds: float = 2.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)[None]


@pytest.mark.parametrize("block", [1 << 18, 1000, 2399])
def test_levels(block: int) -> None:
    wav = np.concatenate([sine(100, 0.5), sine(100, 0.5) + 0.1])
    meter = metered(wav, block)
    assert meter.frames == 2 * RATE and meter.peak == pytest.approx(0.6)
    assert meter.rms == pytest.approx(math.sqrt(0.125 + 0.01 / 2), rel=1e-4)
    assert meter.offset == pytest.approx(0.1, abs=1e-4)
    assert meter.silence == meter.clipped == 0


@pytest.mark.parametrize("block", [1 << 18, 1000])
def test_silence_is_where_all_channels_are(block: int) -> None:
    wav = np.concatenate([sine(100, 0.5), sine(100, 0.5)])
    wav[0, : RATE // 2] = 0
    assert metered(wav, block).silence == 0
    wav[1, : RATE // 2] = 1e-4  # -80 dBFS
    assert metered(wav, block).silence == pytest.approx(0.25)
    wav[1, : RATE // 2] = 1e-2  # -40 dBFS
    assert metered(wav, block).silence == 0
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


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000])
def test_frames_lie_at_the_same_times_and_frequencies(rate: int) -> None:
    time = np.arange(2 * rate) / rate
    wave = (np.sin(2 * np.pi * 1000 * time) * (time > 1)).astype(np.float32)
    frames = Frames(rate)
    powers = np.concatenate([*frames.add(wave[:777]), *frames.add(wave[777:]), *frames.flush()])
    assert len(powers) == frames.count == 1 + math.floor((2 - 0.06) / HOP + 1e-9)
    loud = powers[round(1.2 / HOP)]
    assert loud.argmax() == 60 and loud.max() == pytest.approx(1, rel=0.01)  # 16.7 Hz a bin
    (begin, *_) = np.flatnonzero(powers[:, 60] > 1e-3)
    assert begin * HOP == pytest.approx(1 - 0.05, abs=0.011)
    whole = Frames(rate)
    assert np.array_equal(powers, np.concatenate(list(whole.add(wave))))


def test_a_file_shorter_than_a_frame_is_one_frame() -> None:
    frames = Frames(RATE)
    wave = np.sin(2 * np.pi * 1000 * np.arange(500) / RATE).astype(np.float32)
    assert list(frames.add(wave)) == []
    (powers,) = frames.flush()
    assert powers.shape == (1, frames.size // 2 + 1) and powers[0].argmax() == 60
