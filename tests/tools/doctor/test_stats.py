"""Statistics of signals whose levels and bandwidth are known."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal

from adversarial_trainer.audio import resample
from adversarial_trainer.data import demo
from adversarial_trainer.tools.doctor.stats import AudioFile, examine_file

RATE = 24_000


def examined(folder: Path, wav: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> AudioFile:
    """`wav` is `[C, T]` or `[T]`."""
    soundfile.write(folder / "a.wav", wav.T, rate, subtype)
    result = examine_file(str(folder / "a.wav"))
    assert isinstance(result, AudioFile)
    return result


def sine(hertz: float, amplitude: float = 1.0) -> np.ndarray:
    """Two seconds, `[1, T]`."""
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(2 * RATE) / RATE)[None]


def test_levels(tmp_path: Path) -> None:
    wav = np.concatenate([sine(100, 0.5), sine(100, 0.5) + 0.1])
    file = examined(tmp_path, wav)
    assert (file.seconds, file.format) == (2.0, "WAV FLOAT")
    assert file.peak == pytest.approx(0.6) and file.offset == pytest.approx(0.1, abs=1e-4)
    assert file.rms == pytest.approx(math.sqrt(0.125 + 0.01 / 2), rel=1e-4)
    assert file.silence == file.clipped == 0
    wav[0, : RATE // 2] = 0
    assert examined(tmp_path, wav).silence == 0  # the other channel sounds on
    for level, silence in ((1e-4, 0.25), (1e-2, 0)):  # -80, -40 dBFS
        wav[1, : RATE // 2] = level
        assert examined(tmp_path, wav).silence == silence


def test_clipping_is_runs_at_the_top(tmp_path: Path) -> None:
    loud = 2 * sine(997)
    expected = (np.abs(loud) >= 1).mean()  # two thirds
    for wav in (loud.clip(-1, 1), np.round(loud.clip(-1, 1) * 32767) / 32768):
        assert examined(tmp_path, wav).clipped == pytest.approx(expected, rel=0.01)
    assert examined(tmp_path, loud).clipped > 0.5  # cannot be stored in integers
    # A signal below the top, full waves, and a click are not clipped.
    click = np.zeros((1, RATE))
    click[0, 100:102] = 1
    for wav in (0.9 * loud.clip(-1, 1), sine(50), sine(997), click):
        assert examined(tmp_path, wav).clipped == 0
    click[0, 102] = 1
    assert examined(tmp_path, click).clipped == pytest.approx(3 / RATE)


def sound(kind: str, rate: int) -> np.ndarray:
    """Four seconds with content up to half the rate."""
    random = np.random.default_rng(5)
    if kind == "noise":
        return 0.1 * random.standard_normal(4 * rate)
    if kind == "music":
        wave = demo.piece(random, rate, 1, 4 * rate)[0]
    else:
        wave = demo.utterance(random, rate, 4 * rate)[0]
    return 0.5 * wave / np.abs(wave).max()


def low_pass(wave: np.ndarray, hertz: float, rate: int) -> np.ndarray:
    taps = signal.firwin(801, hertz, fs=rate, window=("kaiser", 12.0))
    return signal.oaconvolve(wave, taps, mode="same")


@pytest.mark.parametrize("kind", ["noise", "music", "speech"])
def test_bandwidth_of_filters_and_resampling(tmp_path: Path, kind: str) -> None:
    wave = sound(kind, RATE)
    assert examined(tmp_path, wave, RATE, "PCM_16").bandwidth >= 0.8 * RATE / 2
    for hertz in (4000, 8000):
        file = examined(tmp_path, low_pass(wave, hertz, RATE), RATE, "PCM_16")
        assert file.bandwidth == pytest.approx(hertz, rel=0.08)
    up = resample(torch.from_numpy(wave).float(), RATE, 2 * RATE).numpy()
    # Sounds that fade away before the top are heard to end a little earlier.
    found = examined(tmp_path, up, 2 * RATE, "PCM_16").bandwidth
    assert 0.84 * RATE / 2 <= found <= 1.02 * RATE / 2
    quiet = examined(tmp_path, 0.03 * up, 2 * RATE)
    assert quiet.bandwidth == pytest.approx(found, rel=0.12)


@pytest.mark.parametrize("kind, suffix, setting", [("music", "mp3", 0.6), ("noise", "ogg", 0.7)])
def test_bandwidth_of_lossy_codecs(kind: str, suffix: str, setting: float, tmp_path: Path) -> None:
    wave, rate = sound(kind, 48_000), 48_000
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, wave, rate, compression_level=setting)
    decoded, _ = soundfile.read(path)
    # An independent look: the highest frequency that is kept to within 20 dB of the original.
    frequencies, before = signal.welch(wave, rate, nperseg=2048)
    _, after = signal.welch(decoded[: len(wave)], rate, nperseg=2048)
    kept = frequencies[np.flatnonzero(after > 0.01 * before)[-1]]
    file = examine_file(str(path))
    assert isinstance(file, AudioFile) and kept < 20_500
    assert file.bandwidth == pytest.approx(kept, rel=0.1)
    # As a wav made of it shows as well.
    assert examined(tmp_path, decoded, rate, "PCM_16").bandwidth == pytest.approx(kept, rel=0.12)


def test_no_end_of_content_where_it_cannot_be_judged(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(np.arange(48_000) * 0.1)
    assert examined(tmp_path, tone, 48_000).bandwidth == 24_000
    assert examined(tmp_path, tone[:100], 4000).bandwidth == 2000
    # Noise above is content, even 60 dB below.
    wave = sound("noise", 48_000)
    low = low_pass(wave, 8000, 48_000)
    assert examined(tmp_path, low, 48_000).bandwidth == pytest.approx(8000, rel=0.05)
    assert examined(tmp_path, low + 0.003 * wave, 48_000).bandwidth == 24_000
