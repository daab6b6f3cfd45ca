"""Check an audio file by decoding it to its end."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import soundfile

from adversarial_trainer.audio import AudioError, open_audio, read_frames

from .decoding import fault_of
from .manifest import AudioMeta
from .scan_cache import Entry
from .truncation import missing_data, tells_length

MIN_DURATION = 0.01  # seconds
SILENCE = 1e-5  # peak to peak; a third of a step of 16 bits
RATES = (1_000, 768_000)  # Hz
_BLOCK = 1 << 18  # samples
# What players make of the padding at the end of an mp3 differs.
_MP3_PADDING = 4 * 1152  # samples

# Sees the open file and each of its blocks `[n, C]`, in order, once they are known to be finite.
Observer = Callable[[soundfile.SoundFile, np.ndarray], None]


def check(entry: Entry, observe: Observer | None = None) -> Entry:
    """Decode the file; the entry with its meta or with the reason to leave it out."""
    frames, rate, declared, length, step = 0, 1, 0, 0, 0

    def span() -> str:
        return f"between {frames / rate:.1f} and {min(length, frames + step) / rate:.1f} s"

    try:
        if entry.size == 0:
            return entry.skip("empty file: 0 bytes")
        with open_audio(entry.path) as file:
            rate, declared = file.samplerate, file.frames
            length = declared
            if not RATES[0] <= rate <= RATES[1]:
                return entry.skip(f"odd sample rate: {rate} Hz")
            if missing := missing_data(entry.path):
                return entry.skip(f"truncated: {missing}")
            if file.format == "MP3":
                declared = declared - _MP3_PADDING if tells_length(entry.path) else 0
            step = max(1, _BLOCK // file.channels)
            low, high = math.inf, -math.inf
            while len(block := read_frames(file, frames, step)):
                bottom, top = float(block.min()), float(block.max())
                if fault := fault_of(bottom, top):
                    return entry.skip(f"{fault}{':' if ':' not in fault else ','} {span()}")
                low, high = min(low, bottom), max(high, top)
                frames += len(block)
                if observe is not None:
                    observe(file, block)
    except AudioError as error:
        where = f" ({span()})" if step else ""
        return entry.skip(f"unreadable: {error.reason}{where}")
    except OSError as error:
        return entry.skip(f"unreadable: {error.strerror}")
    if frames < declared:
        return entry.skip(f"truncated: {frames} of {declared} samples decode")
    if frames == 0:
        return entry.skip("empty file: no samples")
    if frames < MIN_DURATION * rate:
        return entry.skip(f"too short: {frames} samples at {rate} Hz")
    if high - low < SILENCE:
        return entry.skip("silent")
    return entry.accept(AudioMeta(entry.path, frames / rate, rate, amplitude=max(-low, high)))
