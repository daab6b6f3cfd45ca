"""WAV through pipes, where nothing can be sought and the length is not known."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import torch

from adversarial_trainer.audio import to_subtype

logger = logging.getLogger(__name__)

_FORMAT = struct.Struct("<HHIIHH")  # tag, channels, rate, bytes a second and a frame, bits
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_READ = {(_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32)}
_WRITTEN = {
    "PCM_16": (_PCM, 16),
    "PCM_24": (_PCM, 24),
    "PCM_32": (_PCM, 32),
    "FLOAT": (_FLOAT, 32),
}
_LONGEST_CHUNK = 1 << 20  # bytes, of what stands before the samples
_OPEN = 0x7FFF0000  # sizes from here on, and 0, are what programs write to pipes
_UNKNOWN = 0xFFFFFFFF


class WavFormat(NamedTuple):
    """Samples that follow in a pipe.

    Attributes:
        tag: 1 for integers, 3 for floats.
        bits: of a sample.
        size: bytes, or None: up to the end.
    """

    tag: int
    bits: int
    sample_rate: int
    channels: int
    size: int | None


def read_format(file: BinaryIO) -> tuple[WavFormat | None, bytes]:
    """What a pipe begins with, None if it is no WAV that `read_samples` knows; the bytes read."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None, head
    found: tuple[int, int, int, int] | None = None
    while len(chunk := file.read(8)) == 8:
        head += chunk
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"data":
            if found is None:
                return None, head
            tag, bits, rate, channels = found
            open_end = size == 0 or size >= _OPEN
            return WavFormat(tag, bits, rate, channels, None if open_end else size), head
        if size > _LONGEST_CHUNK:
            return None, head
        body = file.read(size + size % 2)
        head += body
        if name == b"fmt " and len(body) >= _FORMAT.size:
            tag, channels, rate, _, align, bits = _FORMAT.unpack_from(body)
            if tag == _EXTENSIBLE and len(body) >= 26:
                tag = int.from_bytes(body[24:26], "little")
            known = (tag, bits) in _READ and align == channels * bits // 8
            if not known or not 1 <= channels <= 1024 or rate < 1:
                return None, head
            found = tag, bits, rate, channels
    return None, head + chunk


def read_samples(file: BinaryIO, wav: WavFormat, seconds: float = 1.0) -> Iterator[torch.Tensor]:
    """Blocks `[C, T]` of what follows, float32; a last frame that is not whole is left out."""
    frame = wav.channels * wav.bits // 8
    step, left = max(1, round(seconds * wav.sample_rate)) * frame, wav.size
    while data := file.read(step if left is None else min(step, left)):
        left = None if left is None else left - len(data)
        samples = _to_float(data[: len(data) // frame * frame], wav)
        yield torch.from_numpy(samples.reshape(-1, wav.channels).T.copy())  # [T, C] -> [C, T]


def write_wav(
    file: BinaryIO, blocks: Iterable[torch.Tensor], sample_rate: int, channels: int, subtype: str
) -> None:
    """Write blocks `[C, T]` as they come, under a header that leaves the length open.

    Samples beyond [-1, 1] are cut off, with a warning at the end; FLOAT keeps them.
    """
    tag, bits = wav_subtype(subtype)
    align = channels * bits // 8
    fmt = _FORMAT.pack(tag, channels, sample_rate, sample_rate * align, align, bits)
    unknown = struct.pack("<I", _UNKNOWN)
    file.write(b"RIFF" + unknown + b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt)
    file.write(b"data" + unknown)
    peak = 0.0
    for block in blocks:
        data = block.detach().to("cpu", torch.float64).numpy().T  # [C, T] -> [T, C]
        if tag == _PCM:
            peak = max(peak, float(np.abs(data).max(initial=0.0)))
        file.write(_to_bytes(data, subtype, bits))
        file.flush()
    if peak > 1:
        logger.warning("stdout: samples beyond [-1, 1] were cut off, peak %.3f", peak)


def wav_subtype(subtype: str) -> tuple[int, int]:
    """Tag and bits of a subtype; ValueError if `write_wav` does not know it."""
    if subtype not in _WRITTEN:
        choices = ", ".join(_WRITTEN)
        raise ValueError(f"cannot write {subtype} to stdout. Choices: {choices}")
    return _WRITTEN[subtype]


def _to_float(data: bytes, wav: WavFormat) -> np.ndarray:
    if wav.tag == _FLOAT:
        return np.frombuffer(data, "<f4").astype(np.float32)
    size = wav.bits // 8
    # As the highest bytes of 32-bit integers.
    wide = np.zeros((len(data) // size, 4), np.uint8)
    wide[:, 4 - size :] = np.frombuffer(data, np.uint8).reshape(-1, size)
    return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)


def _to_bytes(data: np.ndarray, subtype: str, bits: int) -> bytes:
    if subtype == "FLOAT":
        return data.astype("<f4").tobytes()
    wide = to_subtype(data.clip(-1, 1), subtype).astype("<i4")
    highest = np.ascontiguousarray(wide).view(np.uint8).reshape(-1, 4)[:, 4 - bits // 8 :]
    return highest.tobytes()
