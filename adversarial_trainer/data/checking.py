"""Check an audio file by decoding it to its end."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import soundfile

from adversarial_trainer.audio import AudioError, open_audio, read_frames

from .decoding import fault_of
from .manifest import AudioMeta

MIN_DURATION = 0.01  # seconds
SILENCE = 1e-5  # peak to peak; a third of a step of 16 bits
RATES = (1_000, 768_000)  # Hz
_BLOCK = 1 << 18  # samples
# Bytes that may be missing: some programs count the header as data.
_TOLERANCE = 1024
# Sizes that programs write to a pipe, because they cannot know: about the most of 31 or 32 bits.
_UNKNOWN_SIZES = (0x7FFF_0000, 0x8000_0000), (0xFFFF_0000, 0xFFFF_FFFF)

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
    frames, declared, low, high = 0, 0, math.inf, -math.inf
    where = ""
    try:
        if os.path.getsize(path) == 0:
            return Skipped(path, "empty file: 0 bytes")
        with open_audio(path) as file:
            rate = file.samplerate
            # libsndfile guesses the length of an mp3 without a Xing header.
            declared = 0 if file.format == "MP3" else file.frames
            if not RATES[0] <= rate <= RATES[1]:
                return Skipped(path, f"odd sample rate: {rate} Hz")
            if missing := _missing_data(path):
                return Skipped(path, f"truncated: {missing}")
            step = max(1, _BLOCK // file.channels)
            while True:
                where = f"between {frames / rate:.1f} and {(frames + step) / rate:.1f} s"
                block = read_frames(file, frames, step)
                if not len(block):
                    break
                bottom, top = float(block.min()), float(block.max())
                if fault := fault_of(bottom, top):
                    return Skipped(
                        path, f"{fault}, {where}" if ":" in fault else f"{fault}: {where}"
                    )
                low, high = min(low, bottom), max(high, top)
                frames += len(block)
                if observe is not None:
                    observe(file, block)
    except AudioError as error:
        return Skipped(path, f"unreadable: {error.reason}" + (f" ({where})" if where else ""))
    except OSError as error:
        return Skipped(path, f"unreadable: {error.strerror}")
    if frames < declared:
        return Skipped(path, f"truncated: {frames} of {declared} samples decode")
    if frames == 0:
        return Skipped(path, "empty file: no samples")
    if frames < MIN_DURATION * rate:
        return Skipped(path, f"too short: {frames} samples at {rate} Hz")
    if high - low < SILENCE:
        return Skipped(path, "silent")
    return AudioMeta(path, frames / rate, rate, amplitude=max(-low, high))


def _missing_data(path: str) -> str | None:
    """Describe what a wav or aiff file lacks at its end: libsndfile shortens it silently."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        form, _, kind = struct.unpack("4s4s4s", file.read(12).ljust(12))
        if kind not in (b"WAVE", b"AIFF", b"AIFC") or form not in (b"RIFF", b"RIFX", b"FORM"):
            return None
        layout = "<4sI" if form == b"RIFF" else ">4sI"
        # A thousand chunks at most: a file made of chunk headers would take for ever.
        for _ in range(1000):
            header = file.read(8)
            if len(header) < 8:
                return None
            name, declared = struct.unpack(layout, header)
            if name in (b"data", b"SSND"):
                there = size - file.tell()
                unknown = any(first <= declared <= last for first, last in _UNKNOWN_SIZES)
                if unknown or declared - there <= _TOLERANCE:
                    return None
                return f"{max(0, there)} of {declared} bytes of samples are there"
            file.seek(declared + declared % 2, os.SEEK_CUR)
    return None
