"""The start of a bitstream: what it takes to read the rest."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

# As PNG's: not text, and changed by whatever changes line ends or drops the eighth bit.
MAGIC = b"\x89ATC\r\n\x1a\n"
VERSION = 1
_FIXED = struct.Struct("<8sHH")  # magic, version, length of the JSON
FIXED = _FIXED.size
_CRC = struct.Struct("<I")
MAX_JSON = 4096  # bytes
MAX_PAYLOAD = 0xFFFF  # bytes of a block
MAX_CODES = 0xFFFF  # of a block
_SCALE = 4  # bytes
# What resampling takes grows with the two rates over their greatest common divisor.
_MAX_RATIO_TERM = 200_000
# Of each number in the header, smallest and largest.
_LIMITS = {
    "sample_rate": (1, 768_000),
    "channels": (1, 1024),
    "model_rate": (1, 768_000),
    "model_channels": (1, 1024),
    "codebooks": (1, 1024),
    "cardinality": (2, 1 << 24),
    "hop": (1, 1 << 20),
    "segment": (1, 1 << 36),
    "stride": (1, 1 << 36),
}


class FormatError(ValueError):
    """Bytes that are not what docs/bitstream.md says."""


@dataclass(frozen=True)
class Header:
    """What holds for a whole bitstream.

    Block n holds the frames of the samples from `n * stride` on, at most `segment` of them.

    Attributes:
        model: hash of the model that decodes it.
        sample_rate: of the audio that was encoded, in Hz.
        channels: of that audio.
        model_rate: sample rate of the model, in Hz; all lengths but the last one are at this rate.
        model_channels: channels of the model.
        codebooks: codes a frame.
        cardinality: values that a code can take, 0 to cardinality - 1.
        hop: samples a frame.
        segment: samples of a full block.
        stride: samples from a block's start to the next one's.
        separate: each block is a signal of its own, which overlaps with the next one if
            `stride < segment`; else the blocks are one signal.
        scaled: each block has a factor for its audio.
        tables: hash of the tables for entropy coding; None: there are no such blocks.
    """

    model: str
    sample_rate: int
    channels: int
    model_rate: int
    model_channels: int
    codebooks: int
    cardinality: int
    hop: int
    segment: int
    stride: int
    separate: bool = False
    scaled: bool = False
    tables: str | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise FormatError(f"{name} must be an integer in {low}..{high}, got {value!r:.99}")
        common = math.gcd(self.sample_rate, self.model_rate)
        if max(self.sample_rate, self.model_rate) > _MAX_RATIO_TERM * common:
            raise FormatError(
                f"sample_rate={self.sample_rate} and model_rate={self.model_rate} have too small a "
                "common divisor to be resampled"
            )
        for name in ("separate", "scaled"):
            if type(getattr(self, name)) is not bool:
                raise FormatError(f"{name} must be true or false, got {getattr(self, name)!r:.99}")
        if self.scaled and not self.separate:
            raise FormatError("scaled needs separate blocks")
        _check_hash("model", self.model)
        if self.tables is not None:
            _check_hash("tables", self.tables)
        if self.separate and not self.segment <= 2 * self.stride <= 2 * self.segment:
            raise FormatError(
                f"stride must be half of segment={self.segment} to all of it, got {self.stride}"
            )
        if not self.separate and not self.stride == self.segment == self.frames * self.hop:
            raise FormatError(
                f"stride and segment must be the same whole number of hops of {self.hop} samples, "
                f"got {self.stride} and {self.segment}"
            )
        many = self.frames * self.codebooks > MAX_CODES
        if many or self.payload_bytes(self.frames) > MAX_PAYLOAD:
            raise FormatError(
                f"a block of {self.frames} frames with {self.codebooks} codes of {self.bits} bits "
                f"is too large; at most {MAX_CODES} codes and {MAX_PAYLOAD} bytes"
            )

    @property
    def bits(self) -> int:
        """Bits of a packed code."""
        return (self.cardinality - 1).bit_length()

    @property
    def frames(self) -> int:
        """Frames of a full block."""
        return -(-self.segment // self.hop)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.model_rate / self.hop

    @property
    def bandwidth(self) -> float:
        """kb/s of the packed codes."""
        return self.codebooks * self.bits * self.frame_rate / 1000

    def payload_bytes(self, frames: int) -> int:
        """Bytes of a block of packed codes, its scale included."""
        return -(-frames * self.codebooks * self.bits // 8) + _SCALE * self.scaled

    def model_samples(self, length: int) -> int:
        """Samples at the model's rate of `length` samples at the audio's."""
        return -(-length * self.model_rate // self.sample_rate)

    def blocks(self, length: int) -> int:
        """How many blocks audio of `length` samples has."""
        return -(-self.model_samples(length) // self.stride)

    def block_frames(self, sequence: int, length: int) -> int:
        """Frames of block number `sequence` of audio of `length` samples."""
        rest = self.model_samples(length) - sequence * self.stride
        return -(-min(self.segment, rest) // self.hop)

    def to_bytes(self) -> bytes:
        """The header as it stands in a file."""
        text = json.dumps(asdict(self), separators=(",", ":")).encode()
        data = _FIXED.pack(MAGIC, VERSION, len(text)) + text
        return data + _CRC.pack(zlib.crc32(data))


def header_size(data: bytes) -> int:
    """Bytes of the header whose first `FIXED` ones are `data`; FormatError if there is none."""
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise FormatError(f"not an .atc file: it begins with {data[: len(MAGIC)]!r}")
    if len(data) < FIXED:
        raise FormatError(f"it ends after {len(data)} bytes, inside the header")
    _, version, length = _FIXED.unpack(data)
    if version != VERSION:
        raise FormatError(f"version {version}; this program reads version {VERSION}")
    if length > MAX_JSON:
        raise FormatError(f"a header of {length} bytes; at most {MAX_JSON} are allowed")
    return FIXED + int(length) + _CRC.size


def read_header(data: bytes) -> Header:
    """The header that `data` is, of `header_size` bytes; FormatError if it is damaged."""
    if header_crc(data) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise FormatError("the header is damaged: wrong CRC")
    return _parse(data[FIXED : -_CRC.size])


def header_crc(header: bytes) -> int:
    """The CRC32 that each block's goes on from: of the header without its own CRC."""
    return zlib.crc32(header[: -_CRC.size])


def _parse(text: bytes) -> Header:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the header is not JSON: {error}") from error
    if not isinstance(values, Mapping):
        raise FormatError("the header's JSON is not an object")
    names = [field.name for field in fields(Header)]
    if missing := [name for name in names if name not in values]:
        raise FormatError(f"the header lacks {', '.join(missing)}")
    return Header(**{name: values[name] for name in names})  # later versions may add keys


def _check_hash(name: str, value: Any) -> None:
    valid = isinstance(value, str) and 1 <= len(value) <= 128
    if not valid or not set(value) <= set("0123456789abcdef"):
        raise FormatError(f"{name} must be 1 to 128 hex digits, got {value!r:.99}")
