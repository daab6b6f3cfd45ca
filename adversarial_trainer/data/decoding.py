"""Decode parts of listed files, and count those that can no longer be decoded."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable

import soundfile
import torch

from adversarial_trainer import audio

logger = logging.getLogger(__name__)

# 40 dB above full scale: integers written as floats are beyond, recordings are not.
MAX_PEAK = 100.0


class SkipLog:
    """Counts the files that broke after they were listed, with one warning for each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, skipped: Iterable[tuple[str, str]]) -> None:
        """Count `(path, reason)` pairs."""
        for path, reason in skipped:
            if path not in self.counts:
                logger.warning("%r is left out: %s", path, reason)
            self.counts[path] += 1

    @property
    def total(self) -> int:
        """Number of times that a file could not be used."""
        return self.counts.total()


def usable_frames(file: soundfile.SoundFile, duration: float) -> int:
    """Return the frames of an open file that is listed with `duration` seconds.

    The header of an mp3 may declare too many; the list may be of a file since replaced.
    """
    return min(file.frames, math.ceil(duration * file.samplerate - 1e-3))


def fault_of(low: float, high: float) -> str | None:
    """Describe what is wrong with samples from `low` to `high` (NaN if any sample is)."""
    if -MAX_PEAK <= low <= high <= MAX_PEAK:
        return None
    if -math.inf < low <= high < math.inf:
        return f"out of range: samples up to {max(-low, high):.3g}, full scale is 1"
    return "NaN or Inf samples"


def decode(file: soundfile.SoundFile, start: int, frames: int) -> torch.Tensor:
    """Return frames from `start` on as `[C, T]`.

    Raises ValueError if there are none, fewer than `frames`, or samples that are NaN, Inf or far
    out of range.
    """
    data = audio.read_frames(file, start, frames)
    if frames <= 0:
        raise ValueError("no samples")
    if len(data) < frames:
        raise ValueError(f"truncated: {len(data)} of {frames} samples decode")
    if fault := fault_of(float(data.min()), float(data.max())):
        raise ValueError(fault)
    return torch.from_numpy(data.T.copy())  # [T, C] -> [C, T]


def reason_of(error: OSError | ValueError) -> str:
    """Return an error's message without the path."""
    if isinstance(error, audio.AudioError):
        return error.reason
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
