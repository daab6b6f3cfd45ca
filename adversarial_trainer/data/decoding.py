"""Decode parts of listed files, and keep count of those that no longer can be."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
import soundfile
import torch

from .. import audio

logger = logging.getLogger(__name__)


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


def usable_frames(file: soundfile.SoundFile, duration: float) -> int:
    """Frames of an open file that is on record with `duration` seconds.

    The header of an mp3 may say too much, the record may be of a file since replaced.
    """
    return min(file.frames, math.ceil(duration * file.samplerate - 1e-3))


def decode(file: soundfile.SoundFile, start: int, frames: int) -> torch.Tensor:
    """That stretch as `[C, T]`. ValueError if it is empty, shorter than `frames`, or not finite."""
    data = audio.read_frames(file, start, frames)
    if frames <= 0:
        raise ValueError("no samples")
    if len(data) < frames:
        raise ValueError(f"truncated: {len(data)} of {frames} samples decode")
    # NaN and Inf go through a sum, which is ten times as fast as looking at each sample.
    with np.errstate(all="ignore"):
        total = data.sum()
    if not math.isfinite(total):
        raise ValueError("NaN or Inf samples")
    return torch.from_numpy(data.T.copy())  # [T, C] -> [C, T]


def reason_of(error: OSError | ValueError) -> str:
    if isinstance(error, audio.AudioError):
        return error.reason
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
