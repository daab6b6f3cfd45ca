"""The end of content, against filters, resampling and codecs whose cutoff is known."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal

from adversarial_trainer.audio import resample
from adversarial_trainer.data import demo
from adversarial_trainer.tools.doctor.bandwidth import BandwidthMeter
from adversarial_trainer.tools.doctor.problems import NARROW
from adversarial_trainer.tools.doctor.report import examine_file

SOUNDS = ["noise", "music", "speech"]


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


def cutoff(wave: np.ndarray, rate: int, bits: int | None = 16) -> float:
    if bits is not None:
        wave = np.round(wave * 2 ** (bits - 1)) / 2 ** (bits - 1)
    meter = BandwidthMeter(rate)
    meter.add(wave.astype(np.float32))
    return meter.cutoff()


@pytest.mark.parametrize("kind", SOUNDS)
def test_low_passed(kind: str) -> None:
    wave = sound(kind, 24_000)
    assert cutoff(wave, 24_000) >= NARROW * 12_000
    for hertz in (4000, 8000):
        assert cutoff(low_pass(wave, hertz, 24_000), 24_000) == pytest.approx(hertz, rel=0.08)


@pytest.mark.parametrize("kind", SOUNDS)
def test_resampled(kind: str) -> None:
    rate, to = 22_050, 44_100
    wave = resample(torch.from_numpy(sound(kind, rate)).float(), rate, to).numpy()
    found = cutoff(wave, to)
    # Sounds that fade away before the top are heard to end a little earlier.
    assert 0.84 * rate / 2 <= found <= 1.02 * rate / 2
    assert cutoff(0.03 * wave, to, bits=None) == pytest.approx(found, rel=0.12)


@pytest.mark.parametrize("kind, suffix, setting", [("music", "mp3", 0.6), ("noise", "ogg", 0.7)])
def test_lossy_codecs(kind: str, suffix: str, setting: float, tmp_path: Path) -> None:
    wave, rate = sound(kind, 48_000), 48_000
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, wave, rate, compression_level=setting)
    decoded, _ = soundfile.read(path)
    # An independent look: the highest frequency that is kept to within 20 dB of the original.
    frequencies, before = signal.welch(wave, rate, nperseg=2048)
    _, after = signal.welch(decoded[: len(wave)], rate, nperseg=2048)
    kept = frequencies[np.flatnonzero(after > 0.01 * before)[-1]]
    _, stats = examine_file(str(path))
    assert stats is not None and kept < 20_500
    assert stats.bandwidth == pytest.approx(kept, rel=0.1)
    # As a wav made of it shows as well.
    soundfile.write(tmp_path / "b.wav", decoded, rate)
    _, again = examine_file(str(tmp_path / "b.wav"))
    assert again is not None and again.bandwidth == pytest.approx(kept, rel=0.12)


def test_what_cannot_be_judged_is_left_alone() -> None:
    assert cutoff(np.zeros(48_000), 48_000) == 24_000
    assert cutoff(np.ones(10), 4000) == 2000
    assert cutoff(0.5 * np.sin(np.arange(48_000) * 0.1), 48_000) == 24_000  # a tone
    # Noise above is content, even 60 dB below.
    wave = sound("noise", 48_000)
    low = low_pass(wave, 8000, 48_000)
    assert cutoff(low, 48_000) == pytest.approx(8000, rel=0.05)
    assert cutoff(low + 0.003 * wave, 48_000) == 24_000
