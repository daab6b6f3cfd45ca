"""What the bytes of an audio file say about its length, where libsndfile does not look."""

from __future__ import annotations

import mmap
import struct

# Bytes of a wav that may be missing: some programs count the header as data.
_TOLERANCE = 1024
# Sizes that programs write to a pipe, because they cannot know: about the most of 31 or 32 bits.
_UNKNOWN_SIZES = (0x7FFF_0000, 0x8000_0000), (0xFFFF_0000, 0xFFFF_FFFF)
# Layer III: kb/s by their number in a frame's header, of MPEG 2 and 2.5, and of 1; Hz of MPEG 1.
_KBPS = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
)
_RATES = (44_100, 48_000, 32_000)
_SAME = 0xFFFE_0C00  # bits of a header that all frames of a file share: sync, version, layer, rate
# Samples that decoders of MPEG audio leave out at both ends, a few frames.
MPEG_EDGES = 5 * 1152


def find_fault(path: str, samples: int, rate: int, mpeg: bool) -> str | None:
    """Describe what is missing at a file's end, or lies beyond the `samples` of libsndfile.

    None if nothing is known to be wrong. `mpeg`: the samples are MPEG audio.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] == b"OggS":
            return _ogg_fault(data)
        if data[:4] in (b"RIFF", b"RIFX", b"FORM") and (fault := _missing_bytes(data)):
            return fault
        there, declared = _mp3_samples(data) if mpeg else (0, False)
    if there > samples + MPEG_EDGES:
        return (
            f"{there / rate:.1f} s of MP3, but its beginning promises {samples / rate:.1f} s: "
            "correct its header (ffmpeg -i old.mp3 -c copy new.mp3)"
        )
    if declared and there < samples - MPEG_EDGES:
        return f"truncated: {there} of {samples} samples are there"
    return None


def _missing_bytes(data: mmap.mmap) -> str | None:
    """Compare the size of a wav's or aiff's samples with what is there: libsndfile shortens it."""
    layout = "<4sI" if data[:4] == b"RIFF" else ">4sI"
    place = 12
    while place + 8 <= len(data):
        name, size = struct.unpack_from(layout, data, place)
        place += 8
        if name in (b"data", b"SSND"):
            there = len(data) - place
            unknown = any(first <= size <= last for first, last in _UNKNOWN_SIZES)
            if unknown or size - there <= _TOLERANCE:
                return None
            return f"truncated: {there} of {size} bytes of samples are there"
        place += size + size % 2
    return None


def _ogg_fault(data: mmap.mmap) -> str | None:
    """Look for the flags of a stream's first page (2) and of its last (4)."""
    place = 0
    while data[place : place + 6] == b"OggS\0\2":  # one for each stream that is interleaved
        segments = data[place + 26]
        place += 27 + segments + sum(data[place + 27 : place + 27 + segments])
    if data.find(b"OggS\0\2", place) >= 0:
        return "several Ogg files one after the other, of which only the first is read: divide them"
    last = data.rfind(b"OggS\0")
    return None if data[last + 5] & 4 else "truncated: the last page is missing"


def _mp3_samples(data: mmap.mmap) -> tuple[int, bool]:
    """Count the samples in an MP3's frames, and tell whether a header declares their number.

    Without such a header libsndfile goes by the size of the first frames. Zero samples for anything
    but layer III.
    """
    place = samples = 0
    if data[:3] == b"ID3":  # 7 bits of its size in each byte
        place = 10 + sum(byte << 7 * n for n, byte in enumerate(data[9:5:-1]))
    beginning = data[place : place + 4096]
    while (place := data.find(b"\xff", place)) >= 0:
        header, size = _mp3_frame(data, place)
        following, _ = _mp3_frame(data, place + size)
        # A frame is followed by one of its kind; anything else is passed over.
        if size and (header ^ following) & _SAME == 0:
            samples += 1152 if header >> 19 & 1 else 576
            place += size
        else:
            place += 1
    return samples, b"Xing" in beginning or b"Info" in beginning


def _mp3_frame(data: mmap.mmap, place: int) -> tuple[int, int]:
    """Return the 32 bits at `place`, and a frame's size in bytes if they are its header, else 0."""
    header = int.from_bytes(data[place : place + 4], "big")
    version, rate = header >> 19 & 3, header >> 10 & 3
    kbps = _KBPS[version == 3][header >> 12 & 15]
    if header >> 21 != 0x7FF or header >> 17 & 3 != 1 or version == 1 or rate == 3 or not kbps:
        return header, 0
    hertz = _RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    return header, (144_000 if version == 3 else 72_000) * kbps // hertz + (header >> 9 & 1)
