"""WAV through pipes: without seeking, and without knowing the length."""

from __future__ import annotations

import io
import itertools
import logging
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import torch

from adversarial_trainer.audio import to_subtype

logger = logging.getLogger(__name__)

_FORMAT = struct.Struct("<HHIIHH")  # tag, channels, rate, bytes per second and frame, bits
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SUBTYPES = {
    "PCM_16": (_PCM, 16),
    "PCM_24": (_PCM, 24),
    "PCM_32": (_PCM, 32),
    "FLOAT": (_FLOAT, 32),
}
_MAX_CHUNK = 1 << 20  # bytes, of a chunk before the samples
_OPEN_SIZE = 0x7FFF0000  # programs that do not know the length write 0, or at least this
_UNKNOWN = 0xFFFFFFFF


class WavFormat(NamedTuple):
    """Format of samples in a pipe.

    Attributes:
        subtype: soundfile's name for it.
        size: bytes, or None: up to the end.
    """

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
    found: tuple[str, int, int] | None = None
    while len(chunk := file.read(8)) == 8:
        head += chunk
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"data":
            open_end = size == 0 or size >= _OPEN_SIZE
            return found and WavFormat(*found, None if open_end else size), head
        if size > _MAX_CHUNK:
            return None, head
        body = file.read(size + size % 2)
        head += body
        if name == b"fmt ":
            found = _parse_format(body)
            if found is None:
                return None, head
    return None, head + chunk


def _parse_format(body: bytes) -> tuple[str, int, int] | None:
    """Return subtype, sample rate and channels of a `fmt ` chunk; None for other formats."""
    if len(body) < _FORMAT.size:
        return None
    tag, channels, rate, _, align, bits = _FORMAT.unpack_from(body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        tag = int.from_bytes(body[24:26], "little")
    for subtype, known in _SUBTYPES.items():
        valid = align == channels * bits // 8 and 1 <= channels <= 1024 and rate >= 1
        if known == (tag, bits) and valid:
            return subtype, rate, channels
    return None


def read_samples(file: BinaryIO, wav: WavFormat, seconds: float = 1.0) -> Iterator[torch.Tensor]:
    """Yield the samples as float32 blocks `[C, T]`; an incomplete last frame is left out."""
    frame = wav.channels * _SUBTYPES[wav.subtype][1] // 8
    step, left = max(1, round(seconds * wav.sample_rate)) * frame, wav.size
    while data := file.read(step if left is None else min(step, left)):
        left = None if left is None else left - len(data)
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


def write_wav(
    file: BinaryIO, blocks: Iterable[torch.Tensor], sample_rate: int, subtype: str
) -> None:
    """Write blocks `[C, T]` as they come, after a header that leaves the length open.

    Samples beyond [-1, 1] are clipped, with a warning at the end; FLOAT keeps them.
    """
    blocks = iter(blocks)
    first = next(blocks)
    channels, (tag, bits) = len(first), _SUBTYPES[subtype]
    align = channels * bits // 8
    fmt = _FORMAT.pack(tag, channels, sample_rate, sample_rate * align, align, bits)
    unknown = struct.pack("<I", _UNKNOWN)
    file.write(b"RIFF" + unknown + b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt)
    file.write(b"data" + unknown)
    max_abs = 0.0
    for block in itertools.chain([first], blocks):
        data = block.detach().to("cpu", torch.float64).numpy().T  # [C, T] -> [T, C]
        if tag == _PCM:
            max_abs = max(max_abs, float(np.abs(data).max(initial=0.0)))
            data = to_subtype(data.clip(-1, 1), subtype)
        raw = io.BytesIO()
        samples = np.ascontiguousarray(data)
        soundfile.write(raw, samples, sample_rate, subtype, endian="LITTLE", format="RAW")
        file.write(raw.getvalue())
        file.flush()
    if max_abs > 1:
        logger.warning("stdout: samples beyond [-1, 1] were clipped, peak %.3f", max_abs)


def check_subtype(subtype: str) -> None:
    """Raise ValueError for a subtype that `write_wav` cannot write."""
    if subtype not in _SUBTYPES:
        choices = ", ".join(_SUBTYPES)
        raise ValueError(f"cannot write {subtype} to stdout. Choices: {choices}")
