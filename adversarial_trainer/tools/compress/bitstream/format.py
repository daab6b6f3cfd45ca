"""Header and blocks of a bitstream, the bytes of both, and writing them."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, dataclass, fields
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .entropy import EntropyCoder

# Like PNG's signature: not text, and damaged by transfers that change line ends or drop bit 8.
MAGIC = b"\x89ATC\r\n\x1a\n"
VERSION = 1
START = struct.Struct("<8sHH")  # magic, version, length of the JSON
CRC = struct.Struct("<I")
MAX_PAYLOAD = 0xFFFF  # bytes of a block
MAX_CODES = 0xFFFF  # of a block

SYNC = b"\xf5ATB"  # 0xF5 occurs in no UTF-8 text
FIELDS = struct.Struct("<BIHH")  # kind, sequence, frames, bytes of the payload
SCALE, LENGTH = struct.Struct("<f"), struct.Struct("<Q")
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
        return -(-frames * self.codebooks * self.bits // 8) + SCALE.size * self.scaled

    def model_samples(self, length: int) -> int:
        """Samples at the model's rate for original audio of `length` samples."""
        return -(-length * self.model_rate // self.sample_rate)

    def kbps(self, seconds: float, payload_bytes: int, total_bytes: int) -> dict[str, float]:
        """Bitrates in kb/s: nominal, of the codes as stored, and of the whole file."""
        factor = 8 / seconds / 1000 if seconds else 0.0
        return {
            "nominal": self.codebooks * self.bits * self.frame_rate / 1000,
            "payload": payload_bytes * factor,
            "total": total_bytes * factor,
        }

    def to_bytes(self) -> bytes:
        """Encode the header, with its CRC at the end."""
        text = json.dumps(asdict(self), separators=(",", ":")).encode()
        data = START.pack(MAGIC, VERSION, len(text)) + text
        return data + CRC.pack(zlib.crc32(data))

    @classmethod
    def from_json(cls, text: bytes) -> Header:
        """Decode the JSON in a header; FormatError if anything is missing in it."""
        names = [field.name for field in fields(cls)]
        try:
            values = json.loads(text)
            known = {name: values[name] for name in names}  # later versions may add keys
        except (LookupError, RecursionError, TypeError, ValueError) as error:
            raise FormatError(f"the header is no JSON object with {', '.join(names)}") from error
        return cls(**known)


class Block(NamedTuple):
    """A block as stored in a file.

    Attributes:
        kind: PACKED, CODED (entropy coded) or END.
        sequence: number of the block, from 0; of the END block, the number of blocks before it.
        frames: number of frames.
        payload: codes, behind their scale if there is one; of the END block, the original's length.
    """

    kind: int
    sequence: int
    frames: int
    payload: bytes


class BitstreamWriter:
    """Write codes that come in pieces of any length as a bitstream, block by block.

    Args:
        file: written to in order, also one that cannot seek.
        coder: entropy coder with the tables `header.tables`; None to pack codes.

    Attributes:
        length: samples per channel of the original audio, once finished.
        payload_bytes: bytes of codes and scales so far.
        total_bytes: all bytes so far.
    """

    def __init__(self, file: BinaryIO, header: Header, coder: EntropyCoder | None = None) -> None:
        self.header = header
        self.length = 0
        self.payload_bytes = self.total_bytes = 0
        self._file, self._coder = file, coder
        self._sequence = 0
        self._pending = np.zeros((header.codebooks, 0), np.int64)
        data = header.to_bytes()
        self._crc = zlib.crc32(data[: -CRC.size])
        self._write(data)

    def write(self, codes: np.ndarray, scale: float | None = None) -> None:
        """Append codes `[K, F]`: any number of frames, or one block where they are separate."""
        if self.header.separate:
            self._write_codes(codes, scale)
            return
        frames = self.header.frames
        self._pending = np.concatenate([self._pending, codes], 1)
        while self._pending.shape[1] >= frames:
            self._write_codes(self._pending[:, :frames])
            self._pending = self._pending[:, frames:].copy()

    def finish(self, length: int) -> None:
        """Write the last frames and the end, for original audio of `length` samples."""
        if self._pending.shape[1]:
            self._write_codes(self._pending)
        self._write_block(END, 0, LENGTH.pack(length))
        self._file.flush()
        self.length = length

    def _write_codes(self, codes: np.ndarray, scale: float | None = None) -> None:
        """Write a block of codes `[K, F]`, entropy coded if there is a coder and that is
        smaller."""
        kind, payload = PACKED, pack(codes, self.header.bits)
        if self._coder is not None and len(coded := self._coder.encode(codes)) < len(payload):
            kind, payload = CODED, coded
        if scale is not None:
            payload = SCALE.pack(scale) + payload
        self._write_block(kind, codes.shape[1], payload)
        self.payload_bytes += len(payload)
        self._sequence += 1

    def _write_block(self, kind: int, frames: int, payload: bytes) -> None:
        body = FIELDS.pack(kind, self._sequence, frames, len(payload)) + payload
        self._write(SYNC + CRC.pack(zlib.crc32(body, self._crc)) + body)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.total_bytes += len(data)


def read_codes(
    header: Header, block: Block, coder: EntropyCoder | None
) -> tuple[np.ndarray, float | None]:
    """Return the codes int64 `[K, F]` and the scale of a block.

    Args:
        coder: with the tables `header.tables`; needed for CODED blocks only.
    """
    payload, scale = block.payload, None
    if header.scaled:
        scale = float(SCALE.unpack_from(payload)[0])
        payload = payload[SCALE.size :]
    if block.kind == PACKED:
        return unpack(payload, header.codebooks, block.frames, header.bits), scale
    if coder is None:
        raise ValueError(f"an entropy coder with the tables {header.tables} is needed")
    return coder.decode(payload, block.frames), scale


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
