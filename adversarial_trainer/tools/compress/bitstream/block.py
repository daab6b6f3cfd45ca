"""Blocks: codes of some frames, each readable by itself."""

from __future__ import annotations

import math
import struct
import zlib
from typing import NamedTuple

import numpy as np

from .entropy import EntropyCoder
from .header import FormatError, Header
from .packing import pack, unpack

SYNC = b"\xf5ATB"  # 0xF5 is in no UTF-8 text
_CRC = struct.Struct("<I")
_FIELDS = struct.Struct("<BIHH")  # kind, sequence, frames, bytes of the payload
PREFIX = len(SYNC) + _CRC.size + _FIELDS.size  # bytes before the payload
_SCALE, _LENGTH = struct.Struct("<f"), struct.Struct("<Q")
PACKED, CODED, END = 0, 1, 2  # kinds


class Block(NamedTuple):
    """A block whose CRC is right, as it stands in a file.

    Attributes:
        kind: PACKED, CODED (entropy coded) or END.
        sequence: its number, from 0; of the END block how many there are before it.
        frames: how many it holds.
        payload: what follows the fields.
    """

    kind: int
    sequence: int
    frames: int
    payload: bytes

    def to_bytes(self, header_crc: int) -> bytes:
        fields = _FIELDS.pack(self.kind, self.sequence, self.frames, len(self.payload))
        body = fields + self.payload
        return SYNC + _CRC.pack(zlib.crc32(body, header_crc)) + body

    @property
    def length(self) -> int:
        """Of an END block: samples per channel of the audio."""
        return int(_LENGTH.unpack(self.payload)[0])


def end_block(header: Header, length: int) -> Block:
    """What closes the bitstream of audio of `length` samples."""
    return Block(END, header.blocks(length), 0, _LENGTH.pack(length))


def write_codes(
    header: Header,
    sequence: int,
    codes: np.ndarray,
    scale: float | None,
    coder: EntropyCoder | None,
) -> Block:
    """A block of codes `[K, F]`; entropy coded if there is a coder and that makes it smaller."""
    kind, payload = PACKED, pack(codes, header.bits)
    if coder is not None and len(coded := coder.encode(codes)) < len(payload):
        kind, payload = CODED, coded
    if scale is not None:
        payload = _SCALE.pack(scale) + payload
    return Block(kind, sequence, codes.shape[1], payload)


def read_codes(
    header: Header, block: Block, coder: EntropyCoder | None
) -> tuple[np.ndarray, float | None]:
    """Codes int64 `[K, F]` and scale of a block.

    Args:
        coder: that of `header.tables`; needed for a CODED block only.

    Raises:
        FormatError: it holds what no writer writes.
    """
    payload, scale = block.payload, None
    if header.scaled:
        scale = float(_SCALE.unpack_from(payload)[0])
        payload = payload[_SCALE.size :]
        if not math.isfinite(scale) or scale < 0:
            raise FormatError(f"block {block.sequence} has the scale {scale}")
    if block.kind == PACKED:
        codes = unpack(payload, header.codebooks, block.frames, header.bits)
    else:
        if coder is None or coder.hash != header.tables:
            had = "none" if coder is None else coder.hash
            raise ValueError(
                f"it takes an entropy coder with the tables {header.tables}, not {had}"
            )
        codes = coder.decode(payload, header.codebooks, block.frames)
    if codes.size and codes.max() >= header.cardinality:
        raise FormatError(
            f"block {block.sequence} has a code {codes.max()}; the largest is "
            f"{header.cardinality - 1}"
        )
    return codes, scale


def block_size(data: bytes | bytearray, header: Header) -> int:
    """Bytes of the block whose first `PREFIX` ones are `data`; FormatError if there is none."""
    if data[: len(SYNC)] != SYNC:
        raise FormatError("no block begins here")
    kind, _, frames, size = _FIELDS.unpack_from(data, PREFIX - _FIELDS.size)
    if kind == END:
        valid = frames == 0 and size == _LENGTH.size
    else:
        full = header.payload_bytes(frames)
        valid = 1 <= frames <= header.frames and (
            size == full
            if kind == PACKED
            else kind == CODED
            and header.tables is not None
            and _SCALE.size * header.scaled <= size < full
        )
    if not valid:
        raise FormatError(f"no block is of kind {kind} with {frames} frames in {size} bytes")
    return PREFIX + size


def read_block(data: bytes | bytearray, header: Header, header_crc: int) -> Block:
    """The block that `data` is, of `block_size` bytes; FormatError if it is damaged."""
    body = data[len(SYNC) + _CRC.size :]
    if zlib.crc32(body, header_crc) != _CRC.unpack_from(data, len(SYNC))[0]:
        raise FormatError("wrong CRC")
    kind, sequence, frames, _ = _FIELDS.unpack_from(body)
    block = Block(kind, sequence, frames, bytes(body[_FIELDS.size :]))
    if kind == END and (block.length < 1 or sequence != header.blocks(block.length)):
        raise FormatError(f"{sequence} blocks for {block.length} samples")
    return block
