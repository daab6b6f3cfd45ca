"""Decode parts of listed files, and keep count of those that no longer can be."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable

import soundfile
import torch

from adversarial_trainer import audio

logger = logging.getLogger(__name__)

# 40 dB above full scale. No recording is; integers written as floats are, and their squares soon
# overflow.
MAX_PEAK = 100.0


class SkipLog:
    """Counts the files that broke after they were listed, and warns once about each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, skipped: Iterable[tuple[str, str]]) -> None:
        """Take note of `(path, reason)` pairs."""
        for path, reason in skipped:
            if path not in self.counts:
                logger.warning("%r is left out: %s", path, reason)
            self.counts[path] += 1

    @property
    def total(self) -> int:
        """Draws so far that met a file which could not be used."""
        return self.counts.total()


def usable_frames(file: soundfile.SoundFile, duration: float) -> int:
    """Frames of an open file that is on record with `duration` seconds.

    The header of an mp3 may say too much, the record may be of a file since replaced.
    """
    return min(file.frames, math.ceil(duration * file.samplerate - 1e-3))


def fault_of(low: float, high: float) -> str | None:
    """What is wrong with samples from `low` to `high`; NaN goes through min and max."""
    if -MAX_PEAK <= low <= high <= MAX_PEAK:
        return None
    if -math.inf < low <= high < math.inf:
        return f"out of range: samples up to {max(-low, high):.3g}, full scale is 1"
    return "NaN or Inf samples"


def decode(file: soundfile.SoundFile, start: int, frames: int) -> torch.Tensor:
    """That stretch as `[C, T]`. ValueError if it is empty, shorter than `frames`, or not sound."""
    data = audio.read_frames(file, start, frames)
    if frames <= 0:
        raise ValueError("no samples")
    if len(data) < frames:
        raise ValueError(f"truncated: {len(data)} of {frames} samples decode")
    if fault := fault_of(float(data.min()), float(data.max())):
        raise ValueError(fault)
    return torch.from_numpy(data.T.copy())  # [T, C] -> [C, T]


def reason_of(error: OSError | ValueError) -> str:
    if isinstance(error, audio.AudioError):
        return error.reason
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
