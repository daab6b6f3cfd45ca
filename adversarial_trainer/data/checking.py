"""Check an audio file by decoding it to its end."""

from __future__ import annotations

import math

from ..audio import AudioError, open_audio, read_frames
from .manifest import AudioMeta
from .scan_cache import Entry

MIN_DURATION = 0.01  # seconds
SILENCE = 1e-5  # peak to peak; a third of a step of 16 bits
RATES = (1_000, 768_000)  # Hz
_BLOCK = 1 << 18  # samples


def check(entry: Entry) -> Entry:
    """Decode the file; the entry with its meta or with the reason to leave it out."""
    try:
        if entry.size == 0:
            return entry.skip("empty file: 0 bytes")
        with open_audio(entry.path) as file:
            # The length of an mp3 without Xing header is a guess.
            rate, declared = file.samplerate, 0 if file.format == "MP3" else file.frames
            if not RATES[0] <= rate <= RATES[1]:
                return entry.skip(f"odd sample rate: {rate} Hz")
            step = max(1, _BLOCK // file.channels)
            frames, low, high = 0, math.inf, -math.inf
            while len(block := read_frames(file, frames, step)):
                # NaN goes through min and max, so one look at the ends tells.
                bottom, top = float(block.min()), float(block.max())
                if not -math.inf < bottom <= top < math.inf:
                    return entry.skip(f"NaN or Inf samples: after {frames / rate:.1f} s")
                low, high = min(low, bottom), max(high, top)
                frames += len(block)
    except AudioError as error:
        return entry.skip(f"unreadable: {error.reason}")
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
