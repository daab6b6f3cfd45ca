"""WAV through pipes: without seeking, and without knowing the length."""

from __future__ import annotations

import io
import itertools
import math
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import torch

from adversarial_trainer.audio.files import to_samples

# WAV's format tag and the bits of a sample, by soundfile's names.
SUBTYPES = {"PCM_16": (1, 16), "PCM_24": (1, 24), "PCM_32": (1, 32), "FLOAT": (3, 32)}
_MAX_CHUNK = 1 << 20  # bytes, of a chunk before the samples
_OPEN_SIZE = 0x7FFF0000  # programs that do not know the length write 0, or at least this
_UNKNOWN = b"\xff\xff\xff\xff"


class WavFormat(NamedTuple):
    """Format of samples in a pipe; `size` in bytes, None if they go on to the end."""

    subtype: str
    sample_rate: int
    channels: int
    size: int | None


def read_format(file: BinaryIO) -> tuple[WavFormat | None, bytes]:
    """Read the header of a WAV from a pipe.

    Returns:
        Its format, None if it is no WAV that `read_samples` can read, and the bytes read.
    """
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None, head
    name, size, align = b"", 0, 0
    while name != b"data":
        body = file.read(size + size % 2)
        if name == b"fmt ":
            align = int.from_bytes(body[12:14], "little")  # bytes of a sample in all channels
        chunk = file.read(8)
        head += body + chunk
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if len(chunk) < 8 or name != b"data" and size > _MAX_CHUNK:
            return None, head
    try:
        about = soundfile.info(io.BytesIO(head))
    except soundfile.SoundFileError:
        return None, head
    if about.subtype not in SUBTYPES or align != about.channels * SUBTYPES[about.subtype][1] // 8:
        return None, head
    left = None if size == 0 or size >= _OPEN_SIZE else size
    return WavFormat(about.subtype, about.samplerate, about.channels, left), head


def read_samples(file: BinaryIO, wav: WavFormat, seconds: float = 1.0) -> Iterator[torch.Tensor]:
    """Yield the samples as float32 blocks `[C, T]`; an incomplete last frame is left out."""
    frame = wav.channels * SUBTYPES[wav.subtype][1] // 8
    step = max(1, round(seconds * wav.sample_rate)) * frame
    left = math.inf if wav.size is None else wav.size
    while data := file.read(int(min(step, left))):
        left -= len(data)
        samples, _ = soundfile.read(
            io.BytesIO(data[: len(data) // frame * frame]),
            dtype="float32",
            always_2d=True,
            samplerate=wav.sample_rate,
            channels=wav.channels,
            format="RAW",
            subtype=wav.subtype,
            endian="LITTLE",
        )
        yield torch.from_numpy(samples.T.copy())  # [T, C] -> [C, T]
    if wav.size is not None and left > 0:
        raise ValueError(f"truncated: {left} of {wav.size} bytes of samples are missing")


def write_wav(
    file: BinaryIO, blocks: Iterable[torch.Tensor], sample_rate: int, subtype: str
) -> None:
    """Write blocks `[C, T]` as they come, after a header that leaves the length open; see
    `to_samples`."""
    blocks = iter(blocks)
    first = next(blocks)
    tag, bits = SUBTYPES[subtype]
    align = len(first) * bits // 8
    fmt = (16, tag, len(first), sample_rate, sample_rate * align, align, bits)
    file.write(b"RIFF" + _UNKNOWN + b"WAVEfmt " + struct.pack("<IHHIIHH", *fmt))
    file.write(b"data" + _UNKNOWN)
    for data in to_samples(itertools.chain([first], blocks), sample_rate, subtype, "stdout"):
        raw, samples = io.BytesIO(), np.ascontiguousarray(data)
        soundfile.write(raw, samples, sample_rate, subtype, endian="LITTLE", format="RAW")
        file.write(raw.getvalue())
        file.flush()
