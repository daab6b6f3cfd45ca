"""Length of an audio file by the bytes of its container, where libsndfile does not look."""

from __future__ import annotations

import os
import struct

# Bytes that may be missing: some programs count the header as data.
_TOLERANCE = 1024
# Sizes that programs write to a pipe, because they cannot know: about the most of 31 or 32 bits.
_UNKNOWN_SIZES = (0x7FFF_0000, 0x8000_0000), (0xFFFF_0000, 0xFFFF_FFFF)


def missing_data(path: str) -> str | None:
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
