"""Header of a bitstream."""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import asdict, dataclass, fields
from typing import Any

# Like PNG's signature: not text, and damaged by transfers that change line ends or drop bit 8.
MAGIC = b"\x89ATC\r\n\x1a\n"
VERSION = 1
_START = struct.Struct("<8sHH")  # magic, version, length of the JSON
START = _START.size
_CRC = struct.Struct("<I")
MAX_JSON = 4096  # bytes
MAX_PAYLOAD = 0xFFFF  # bytes of a block
MAX_CODES = 0xFFFF  # of a block
SCALE_SIZE = 4  # bytes
# The memory that resampling takes grows with the rates divided by their greatest common divisor.
_MAX_RATIO_TERM = 200_000
# Smallest and largest value of each number.
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
    """Data that violates the format in docs/bitstream.md."""


@dataclass(frozen=True)
class Header:
    """Properties of a whole bitstream.

    Block n holds the frames of up to `segment` samples, starting at sample `n * stride`. Lengths
    are in samples at the model's rate, except for that of the original audio.

    Attributes:
        model: hash of the model that decodes it.
        sample_rate: of the original audio, in Hz.
        channels: of the original audio.
        model_rate: sample rate of the model, in Hz.
        model_channels: channels of the model.
        codebooks: codes per frame.
        cardinality: number of values of a code, which is in 0 to cardinality - 1.
        hop: samples per frame.
        segment: samples of a full block.
        stride: samples from the start of a block to the start of the next.
        separate: each block is decoded on its own, and overlaps the next one if
            `stride < segment`; otherwise all blocks together are one signal.
        scaled: each block has a factor for its audio.
        tables: hash of the entropy coder's tables; None if no block is entropy coded.

    Raises:
        FormatError: for values outside of the format's limits, or that contradict each other.
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
        for name in ("separate", "scaled"):
            if type(getattr(self, name)) is not bool:
                raise FormatError(f"{name} must be true or false, got {getattr(self, name)!r:.99}")
        _check_hash("model", self.model)
        if self.tables is not None:
            _check_hash("tables", self.tables)
        common = math.gcd(self.sample_rate, self.model_rate)
        if max(self.sample_rate, self.model_rate) > _MAX_RATIO_TERM * common:
            raise FormatError(
                f"sample_rate={self.sample_rate} and model_rate={self.model_rate} have too small a "
                "common divisor to be resampled"
            )
        if self.scaled and not self.separate:
            raise FormatError("scaled needs separate blocks")
        if self.separate and not self.segment <= 2 * self.stride <= 2 * self.segment:
            raise FormatError(
                f"stride must be between half of segment={self.segment} and all of it, got "
                f"{self.stride}"
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
                f"is too large; at most {MAX_CODES} codes and {MAX_PAYLOAD} bytes are allowed"
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
        """Frames per second."""
        return self.model_rate / self.hop

    def payload_bytes(self, frames: int) -> int:
        """Bytes of a block of packed codes, its scale included."""
        return -(-frames * self.codebooks * self.bits // 8) + SCALE_SIZE * self.scaled

    def model_samples(self, length: int) -> int:
        """Samples at the model's rate for original audio of `length` samples."""
        return -(-length * self.model_rate // self.sample_rate)

    def blocks(self, length: int) -> int:
        """Number of blocks for original audio of `length` samples."""
        return -(-self.model_samples(length) // self.stride)

    def block_frames(self, sequence: int, length: int) -> int:
        """Frames of block number `sequence` for original audio of `length` samples."""
        rest = self.model_samples(length) - sequence * self.stride
        return -(-min(self.segment, rest) // self.hop)

    def kbps(self, seconds: float, payload_bytes: int, total_bytes: int) -> dict[str, float]:
        """Bitrates in kb/s: nominal, of the codes as stored, and of the whole file."""
        factor = 8 / seconds / 1000 if seconds else 0.0
        return {
            "nominal": self.codebooks * self.bits * self.frame_rate / 1000,
            "payload": payload_bytes * factor,
            "total": total_bytes * factor,
        }

    def to_bytes(self) -> bytes:
        """Encode the header; `read_header` is the inverse."""
        text = json.dumps(asdict(self), separators=(",", ":")).encode()
        data = _START.pack(MAGIC, VERSION, len(text)) + text
        return data + _CRC.pack(zlib.crc32(data))


def header_size(data: bytes) -> int:
    """Return the length of the header that begins with `data`, its first `START` bytes."""
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise FormatError(f"not an .atc file: it begins with {data[: len(MAGIC)]!r}")
    if len(data) < START:
        raise FormatError(f"it ends after {len(data)} bytes, inside the header")
    _, version, length = _START.unpack(data)
    if version != VERSION:
        raise FormatError(f"version {version}; this program reads version {VERSION}")
    if length > MAX_JSON:
        raise FormatError(f"a header of {length} bytes; at most {MAX_JSON} are allowed")
    return START + int(length) + _CRC.size


def read_header(data: bytes) -> Header:
    """Decode a whole header; FormatError if it is damaged."""
    if header_crc(data) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise FormatError("the header is damaged: wrong CRC")
    try:
        values = json.loads(data[START : -_CRC.size])
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the header is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise FormatError("the header's JSON is not an object")
    names = [field.name for field in fields(Header)]
    if missing := [name for name in names if name not in values]:
        raise FormatError(f"the header lacks {', '.join(missing)}")
    return Header(**{name: values[name] for name in names})  # later versions may add keys


def header_crc(header: bytes) -> int:
    """Return the CRC32 of a header, without its last field: the initial value for blocks' CRCs."""
    return zlib.crc32(header[: -_CRC.size])


def _check_hash(name: str, value: Any) -> None:
    valid = isinstance(value, str) and 1 <= len(value) <= 128
    if not valid or not set(value) <= set("0123456789abcdef"):
        raise FormatError(f"{name} must be 1 to 128 hex digits, got {value!r:.99}")
