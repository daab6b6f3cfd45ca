"""Tell whether a file holds less audio than its header declares.

libsndfile shortens a cut WAV without a word, and guesses the length of a cut Ogg from what is left.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

# Headers that are a little wrong are common: some programs count the header as data.
TOLERANCE = 1024  # bytes
# What programs that write to a pipe declare, because they cannot know: 0, or about the most that
# 31 or 32 bits hold.
_UNKNOWN = (0x7FFF_0000, 0x8000_0000), (0xFFFF_0000, 0xFFFF_FFFF)
_MAX_CHUNKS = 10_000  # before the samples; a file made of chunk headers would take for ever
_OGG_PAGE = 27 + 255 + 255 * 255  # bytes at most
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_MP3_FRAME = 1152  # samples; half of that below 32 kHz


def missing_data(path: str) -> str | None:
    """What is missing at the end of a file, in words; None for formats that are not known here.

    Raises OSError where it cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(12)
        kind = head[:4], head[8:12]
        if head[:4] == b"OggS":
            return _cut_page(file, size)
        if kind in ((b"RIFF", b"WAVE"), (b"RIFX", b"WAVE"), (b"RF64", b"WAVE")):
            span = _chunk(file, ">" if head[:4] == b"RIFX" else "<", b"data")
        elif kind in ((b"FORM", b"AIFF"), (b"FORM", b"AIFC")):
            span = _chunk(file, ">", b"SSND")
        elif head[:4] == b"riff":
            span = _w64(file)
        elif head[:4] == b".snd":
            span = struct.unpack(">II", head[4:])
        else:
            return None
    if span is None:
        return None
    start, declared = span
    there = size - start
    if declared - there <= TOLERANCE or any(low <= declared <= high for low, high in _UNKNOWN):
        return None
    return f"{max(0, there)} of {declared} bytes of samples are there"


def tells_length(path: str) -> bool:
    """Whether an mp3 says how long it is; without that, libsndfile guesses."""
    with open(path, "rb") as file:
        head = file.read(10)
        if len(head) == 10 and head[:3] == b"ID3":
            a, b, c, d = head[6:]
            file.seek(10 + (a << 21 | b << 14 | c << 7 | d))
        else:
            file.seek(0)
        start = file.read(_MP3_FRAME)
    return any(name in start for name in (b"Xing", b"Info", b"VBRI"))


def _chunk(file: BinaryIO, order: str, wanted: bytes) -> tuple[int, int] | None:
    """Where the samples begin and how many bytes they are, by the chunk's header."""
    long_size = 0
    for _ in range(_MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return None
        name, size = struct.unpack(f"{order}4sI", header)
        start = file.tell()
        if name == b"ds64":
            long_size = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))[1]
        if name == wanted:
            return start, long_size if size == 0xFFFF_FFFF and long_size else size
        file.seek(start + size + size % 2)
    return None


def _w64(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(40)  # the file's own header: two names and a size
    for _ in range(_MAX_CHUNKS):
        header = file.read(24)
        if len(header) < 24:
            return None
        name, size = struct.unpack("<16sQ", header)
        if name == _W64_DATA:
            return file.tell(), size - 24
        if size < 24:
            return None
        file.seek(min(size - 24 + -size % 8, 1 << 62), os.SEEK_CUR)
    return None


def _cut_page(file: BinaryIO, size: int) -> str | None:
    """Ogg declares no length, but its last page ends with the file."""
    file.seek(max(0, size - _OGG_PAGE))
    tail = file.read()
    start = tail.rfind(b"OggS")
    if start < 0:
        return None  # something else stands at the end
    page = tail[start:]
    count = page[26] if len(page) > 26 else 255
    if len(page) < 27 + count:
        return "the last Ogg page is cut"
    length = 27 + count + sum(page[27 : 27 + count])
    return "the last Ogg page is cut" if len(page) < length else None
