"""Decode audio files: to their end, to check them, or parts of listed ones."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import soundfile
import torch

from adversarial_trainer import audio
from adversarial_trainer.audio.files import all_blocks, read_frames

from .manifest import AudioMeta

logger = logging.getLogger(__name__)

# 40 dB above full scale: integers written as floats are beyond, recordings are not.
MAX_PEAK = 100.0
MIN_DURATION = 0.01  # seconds
SILENCE = 1e-5  # peak to peak; a third of a step of 16 bits
RATES = (1_000, 768_000)  # Hz
_BLOCK = 1 << 18  # samples

# Called with the open file and each of its blocks `[n, C]`, in order; all samples are finite.
Observer = Callable[[soundfile.SoundFile, np.ndarray], None]


class Skipped(NamedTuple):
    """A file left out, and why. The reason starts with its kind: `unreadable: ...`, `silent`."""

    path: str
    reason: str

    @property
    def kind(self) -> str:
        """The part of the reason that is counted in summaries."""
        return self.reason.partition(":")[0]


def check(path: str, observe: Observer | None = None) -> AudioMeta | Skipped:
    """Decode the file; return its meta, or the reason to leave it out."""
    frames, low, high, where = 0, math.inf, -math.inf, ""
    try:
        if os.path.getsize(path) == 0:
            return Skipped(path, "empty file: 0 bytes")
        with audio.open_audio(path) as file:
            rate = file.samplerate
            if not RATES[0] <= rate <= RATES[1]:
                return Skipped(path, f"odd sample rate: {rate} Hz")
            for block in all_blocks(file, _BLOCK // file.channels):
                where = f" (after {frames / rate:.1f} s)"
                bottom, top = float(block.min()), float(block.max())
                if fault := fault_of(bottom, top):
                    return Skipped(path, fault + where)
                low, high = min(low, bottom), max(high, top)
                frames += len(block)
                if observe is not None:
                    observe(file, block)
    except audio.AudioError as error:
        if error.reason.startswith("truncated"):
            return Skipped(path, error.reason)
        return Skipped(path, f"unreadable: {error.reason}{where}")
    except OSError as error:
        return Skipped(path, f"unreadable: {error.strerror}")
    if frames == 0:
        return Skipped(path, "empty file: no samples")
    if frames < MIN_DURATION * rate:
        return Skipped(path, f"too short: {frames} samples at {rate} Hz")
    if high - low < SILENCE:
        return Skipped(path, "silent")
    return AudioMeta(path, frames / rate, rate, amplitude=max(-low, high))


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

    The header of an mp3 may declare too many. Raises ValueError if it declares a second less than
    are listed: the file was replaced, or libsndfile does not read all of it.
    """
    listed, there = math.ceil(duration * file.samplerate - 1e-3), file.frames
    if there < listed - file.samplerate:
        seconds = f"{there / file.samplerate:.1f} s are there, {duration:.1f} s are listed"
        raise ValueError(f"not the file that was listed: {seconds}")
    return min(there, listed)


def fault_of(low: float, high: float) -> str | None:
    """Describe what is wrong with samples from `low` to `high` (NaN if any sample is)."""
    if -MAX_PEAK <= low <= high <= MAX_PEAK:
        return None
    if -math.inf < low <= high < math.inf:
        return f"out of range: samples up to {max(-low, high):.3g}, full scale is 1"
    return "NaN or Inf: samples must be finite"


def decode(file: soundfile.SoundFile, start: int, frames: int) -> torch.Tensor:
    """Return frames from `start` on as `[C, T]`.

    Raises ValueError if there are none, fewer than `frames`, or samples that are NaN, Inf or far
    out of range.
    """
    data = read_frames(file, start, frames)
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
