"""Blocks of a bitstream: the codes of some frames, or the end."""

from __future__ import annotations

import math
import struct
import zlib
from typing import NamedTuple

import numpy as np

from .entropy import EntropyCoder
from .header import SCALE_SIZE, FormatError, Header

SYNC = b"\xf5ATB"  # 0xF5 occurs in no UTF-8 text
_CRC = struct.Struct("<I")
_FIELDS = struct.Struct("<BIHH")  # kind, sequence, frames, bytes of the payload
PREFIX = len(SYNC) + _CRC.size + _FIELDS.size  # bytes before the payload
_SCALE, _LENGTH = struct.Struct("<f"), struct.Struct("<Q")
PACKED, CODED, END = 0, 1, 2  # kinds


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

    Raises:
        FormatError: for codes or a scale out of range.
        ValueError: the block needs another coder.
    """
    payload, scale = block.payload, None
    if header.scaled:
        scale = float(_SCALE.unpack_from(payload)[0])
        payload = payload[_SCALE.size :]
        if not math.isfinite(scale) or scale < 0:
            raise FormatError(f"block {block.sequence} has the scale {scale}")
    if block.kind == PACKED:
        codes = unpack(payload, header.codebooks, block.frames, header.bits)
    elif coder is not None and coder.hash == header.tables:
        codes = coder.decode(payload, header.codebooks, block.frames)
    else:
        given = "none" if coder is None else coder.hash
        raise ValueError(f"an entropy coder with the tables {header.tables} is needed, not {given}")
    if codes.size and codes.max() >= header.cardinality:
        raise FormatError(
            f"block {block.sequence} has a code {codes.max()}; the largest is "
            f"{header.cardinality - 1}"
        )
    return codes, scale


def block_size(data: bytes | bytearray, header: Header) -> int:
    """Return the length of the block that begins with `data`, its first `PREFIX` bytes."""
    if data[: len(SYNC)] != SYNC:
        raise FormatError("no block begins here")
    kind, _, frames, size = _FIELDS.unpack_from(data, PREFIX - _FIELDS.size)
    full = header.payload_bytes(frames)
    valid = 1 <= frames <= header.frames
    if kind == END:
        valid = frames == 0 and size == _LENGTH.size
    elif kind == CODED:
        valid &= header.tables is not None and SCALE_SIZE * header.scaled <= size < full
    else:
        valid &= kind == PACKED and size == full
    if not valid:
        raise FormatError(f"no block is of kind {kind} with {frames} frames in {size} bytes")
    return PREFIX + size


def read_block(data: bytes | bytearray, header: Header, header_crc: int) -> Block:
    """Decode a whole block; FormatError if it is damaged."""
    body = data[len(SYNC) + _CRC.size :]
    if zlib.crc32(body, header_crc) != _CRC.unpack_from(data, len(SYNC))[0]:
        raise FormatError("wrong CRC")
    kind, sequence, frames, _ = _FIELDS.unpack_from(body)
    block = Block(kind, sequence, frames, bytes(body[_FIELDS.size :]))
    if kind == END and (block.length < 1 or sequence != header.blocks(block.length)):
        raise FormatError(f"{sequence} blocks for {block.length} samples")
    return block


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
