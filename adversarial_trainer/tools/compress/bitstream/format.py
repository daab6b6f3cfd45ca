"""Header and blocks of a bitstream, and the bytes of both."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from .entropy import EntropyCoder

# Like PNG's signature: not text, and damaged by transfers that change line ends or drop bit 8.
MAGIC = b"\x89ATC\r\n\x1a\n"
VERSION = 1
_START = struct.Struct("<8sHH")  # magic, version, length of the JSON
START = _START.size
_CRC = struct.Struct("<I")
_MAX_JSON = 4096  # bytes
MAX_PAYLOAD = 0xFFFF  # bytes of a block
MAX_CODES = 0xFFFF  # of a block

SYNC = b"\xf5ATB"  # 0xF5 occurs in no UTF-8 text
_FIELDS = struct.Struct("<BIHH")  # kind, sequence, frames, bytes of the payload
PREFIX = len(SYNC) + _CRC.size + _FIELDS.size  # bytes before the payload
_SCALE, _LENGTH = struct.Struct("<f"), struct.Struct("<Q")
PACKED, CODED, END = 0, 1, 2  # kinds


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
        FormatError: for values of other types, numbers below 1, and blocks that are too large.
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
        kinds: dict[str, Any] = {"model": str, "tables": str | None}
        kinds |= {"separate": bool, "scaled": bool}
        for name, value in asdict(self).items():
            kind = kinds.get(name, int)
            if not isinstance(value, kind) or kind is int and value < 1:
                raise FormatError(f"the header has {name}={value!r:.99}")
        codes, size = self.frames * self.codebooks, self.payload_bytes(self.frames)
        if codes > MAX_CODES or size > MAX_PAYLOAD:
            raise FormatError(
                f"blocks of {codes} codes in {size} bytes are too large: at most {MAX_CODES} codes "
                f"and {MAX_PAYLOAD} bytes"
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
        return -(-frames * self.codebooks * self.bits // 8) + _SCALE.size * self.scaled

    def model_samples(self, length: int) -> int:
        """Samples at the model's rate for original audio of `length` samples."""
        return -(-length * self.model_rate // self.sample_rate)

    def blocks(self, length: int) -> int:
        """Number of blocks for original audio of `length` samples."""
        return -(-self.model_samples(length) // self.stride)

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
    if length > _MAX_JSON:
        raise FormatError(f"a header of {length} bytes; at most {_MAX_JSON} are allowed")
    return START + int(length) + _CRC.size


def read_header(data: bytes) -> Header:
    """Decode a whole header; FormatError if it is damaged."""
    if header_crc(data) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise FormatError("the header is damaged: wrong CRC")
    names = [field.name for field in fields(Header)]
    try:
        values = json.loads(data[START : -_CRC.size])
        return Header(**{name: values[name] for name in names})  # later versions may add keys
    except FormatError:
        raise
    except (LookupError, RecursionError, TypeError, ValueError) as error:
        raise FormatError(f"the header is no JSON object with {', '.join(names)}") from error


def header_crc(header: bytes) -> int:
    """Return the CRC32 of a header, without its last field: the initial value for blocks' CRCs."""
    return zlib.crc32(header[: -_CRC.size])


class Block(NamedTuple):
    """A block as stored in a file.

    Attributes:
        kind: PACKED, CODED (entropy coded) or END.
        sequence: number of the block, from 0; of the END block, the number of blocks before it.
        frames: number of frames.
        payload: the bytes after the fields.
    """

    kind: int
    sequence: int
    frames: int
    payload: bytes

    def to_bytes(self, header_crc: int) -> bytes:
        """Encode the block; `read_block` is the inverse."""
        fields = _FIELDS.pack(self.kind, self.sequence, self.frames, len(self.payload))
        body = fields + self.payload
        return SYNC + _CRC.pack(zlib.crc32(body, header_crc)) + body

    @property
    def length(self) -> int:
        """Samples per channel of the original audio, stored in the END block."""
        return int(_LENGTH.unpack(self.payload)[0])


def end_block(header: Header, length: int) -> Block:
    """Return the END block for original audio of `length` samples."""
    return Block(END, header.blocks(length), 0, _LENGTH.pack(length))


def write_codes(
    header: Header,
    sequence: int,
    codes: np.ndarray,
    scale: float | None,
    coder: EntropyCoder | None,
) -> Block:
    """Return a block of codes `[K, F]`, entropy coded if there is a coder and that is smaller."""
    kind, payload = PACKED, pack(codes, header.bits)
    if coder is not None and len(coded := coder.encode(codes)) < len(payload):
        kind, payload = CODED, coded
    if scale is not None:
        payload = _SCALE.pack(scale) + payload
    return Block(kind, sequence, codes.shape[1], payload)


def read_codes(
    header: Header, block: Block, coder: EntropyCoder | None
) -> tuple[np.ndarray, float | None]:
    """Return the codes int64 `[K, F]` and the scale of a block.

    Args:
        coder: with the tables `header.tables`; needed for CODED blocks only.
    """
    payload, scale = block.payload, None
    if header.scaled:
        scale = float(_SCALE.unpack_from(payload)[0])
        payload = payload[_SCALE.size :]
    if block.kind == PACKED:
        return unpack(payload, header.codebooks, block.frames, header.bits), scale
    if coder is None:
        raise ValueError(f"an entropy coder with the tables {header.tables} is needed")
    return coder.decode(payload, block.frames), scale


def block_size(data: bytes | bytearray) -> int:
    """Return the length of the block that begins with `data`, its first `PREFIX` bytes."""
    if data[: len(SYNC)] != SYNC:
        raise FormatError("no block begins here")
    return PREFIX + int(_FIELDS.unpack_from(data, PREFIX - _FIELDS.size)[-1])


def read_block(data: bytes | bytearray, header: Header, header_crc: int) -> Block:
    """Decode a whole block; FormatError if it is damaged."""
    body = data[len(SYNC) + _CRC.size :]
    if zlib.crc32(body, header_crc) != _CRC.unpack_from(data, len(SYNC))[0]:
        raise FormatError("wrong CRC")
    kind, sequence, frames, size = _FIELDS.unpack_from(body)
    full = header.payload_bytes(frames)
    sizes = {PACKED: full, CODED: min(size, full - 1), END: _LENGTH.size}
    if sizes.get(kind) != size or frames > header.frames or (kind == END) != (frames == 0):
        raise FormatError(f"no block is of kind {kind} with {frames} frames in {size} bytes")
    return Block(kind, sequence, frames, bytes(body[_FIELDS.size :]))


def pack(codes: np.ndarray, bits: int) -> bytes:
    """Pack codes `[K, F]` frame by frame, `bits` bits each, highest bit first, zeros at the end."""
    flat = codes.T.reshape(-1, 1)  # [K, F] -> [F * K, 1]
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits(((flat >> shifts) & 1).astype(np.uint8)).tobytes()


def unpack(data: bytes, codebooks: int, frames: int, bits: int) -> np.ndarray:
    """Invert `pack`: return codes int64 `[K, F]`."""
    count = codebooks * frames
    digits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits)
    weights = 1 << np.arange(bits - 1, -1, -1)
    return (digits.reshape(count, bits) @ weights).reshape(frames, codebooks).T
