"""Read a bitstream block by block, with `salvage` also a damaged one."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from .format import (
    CODED,
    CRC,
    END,
    FIELDS,
    LENGTH,
    MAGIC,
    PACKED,
    START,
    SYNC,
    VERSION,
    Block,
    FormatError,
    Header,
)

_MAX_JSON = 4096  # bytes of the header's JSON
_PREFIX = len(SYNC) + CRC.size + FIELDS.size  # bytes of a block before the payload
_READ = 1 << 16  # bytes


class Gap(NamedTuple):
    """Lost audio: its first sample and number of samples, at the model's rate."""

    start: int
    samples: int


class BitstreamReader:
    """Iterator over the blocks of a bitstream, and over the gaps between them.

    Args:
        file: read in order; memory does not grow with its length.
        salvage: continue after damage, instead of a FormatError: yield all undamaged blocks in
            order, and a `Gap` for what is missing.

    Attributes:
        header: header of the bitstream.
        length: samples per channel of the original audio; None until the end was read, and
            afterwards if it is missing.
        end: sample, at the model's rate, up to which the blocks so far reach.
        blocks: number of undamaged blocks so far.
        frames: their frames.
        coded: how many of them are entropy coded.
        payload_bytes: their bytes of codes and scales.
        total_bytes: bytes of the file so far.
        damaged_bytes: bytes so far that belong to no undamaged block.
        gaps: gaps so far.

    Raises:
        FormatError: on construction for a bad header, even with `salvage`; while iterating, for
            damage.
    """

    def __init__(self, file: BinaryIO, salvage: bool = False) -> None:
        # `read1` returns what a pipe has so far, without waiting for more.
        self._get = getattr(file, "read1", file.read)
        self._salvage = salvage
        self._buffer = bytearray()
        self.length: int | None = None
        self.end = 0
        self.blocks = self.frames = self.coded = 0
        self.payload_bytes = self.total_bytes = self.damaged_bytes = 0
        self.gaps: list[Gap] = []
        self._next = 0  # expected number of the next block
        self.header = self._read_header()

    @property
    def complete(self) -> bool:
        """Whether the end was reached without any damage."""
        return self.length is not None and not self.gaps and not self.damaged_bytes

    def __iter__(self) -> Iterator[Block | Gap]:
        while True:
            try:
                block = self._read()
            except FormatError as error:
                if not self._salvage:
                    raise FormatError(f"{error}, at byte {self.total_bytes}") from error
                self._resynchronise()
                continue
            if block is None:
                return
            if block.kind == END:
                (length,) = LENGTH.unpack(block.payload)
                yield from self._gap_before(self.header.model_samples(length))
                self.length = length
                self._read_rest()
                return
            start = block.sequence * self.header.stride
            yield from self._gap_before(start)
            self.end = start + block.frames * self.header.hop
            self._next = block.sequence + 1
            self.blocks += 1
            self.frames += block.frames
            self.coded += block.kind == CODED
            self.payload_bytes += len(block.payload)
            yield block

    def _read_header(self) -> Header:
        whole, data = self._fill(START.size), bytes(self._buffer[: START.size])
        if not data or data[: len(MAGIC)] != MAGIC[: len(data)]:
            raise FormatError(f"not an .atc file: it begins with {data[: len(MAGIC)]!r}")
        size = 0
        if whole:
            _, version, length = START.unpack(data)
            if version != VERSION:
                raise FormatError(f"version {version}; this program reads version {VERSION}")
            if length > _MAX_JSON:
                raise FormatError(f"a header of {length} bytes; at most {_MAX_JSON} are allowed")
            size = START.size + length + CRC.size
        if not whole or not self._fill(size):
            raise FormatError(f"it ends after {len(self._buffer)} bytes, inside the header")
        data = bytes(self._buffer[: size - CRC.size])
        self._crc = zlib.crc32(data)  # with which blocks' CRCs begin
        if CRC.unpack_from(self._buffer, len(data))[0] != self._crc:
            raise FormatError("the header is damaged: wrong CRC")
        self._skip(size)
        return Header.from_json(data[START.size :])

    def _read(self) -> Block | None:
        """Read the next block; None at the end of a file that is salvaged."""
        if not self._fill(_PREFIX):
            if not self._buffer and self._salvage:
                return None
            raise FormatError("the file is truncated")
        if self._buffer[: len(SYNC)] != SYNC:
            raise FormatError("no block begins here")
        kind, sequence, frames, size = FIELDS.unpack_from(self._buffer, _PREFIX - FIELDS.size)
        if not self._fill(_PREFIX + size):
            raise FormatError("the file is truncated")
        body = self._buffer[len(SYNC) + CRC.size : _PREFIX + size]
        if zlib.crc32(body, self._crc) != CRC.unpack_from(self._buffer, len(SYNC))[0]:
            raise FormatError("wrong CRC")
        packed = self.header.payload_bytes(frames)
        sizes = {PACKED: packed, CODED: min(size, packed - 1), END: LENGTH.size}
        if sizes.get(kind) != size or frames > self.header.frames or (kind == END) != (frames == 0):
            raise FormatError(f"no block is of kind {kind} with {frames} frames in {size} bytes")
        if sequence < self._next or not self._salvage and sequence > self._next:
            raise FormatError(f"block {self._next} expected, found block {sequence}")
        self._skip(_PREFIX + size)
        return Block(kind, sequence, frames, bytes(body[FIELDS.size :]))

    def _gap_before(self, start: int) -> Iterator[Gap]:
        """Yield the gap between the blocks so far and sample `start`, if there is one."""
        if start > self.end:
            self.gaps.append(Gap(self.end, start - self.end))
            yield self.gaps[-1]

    def _read_rest(self) -> None:
        """Read the bytes after the end block: there should be none."""
        while self._fill(1):
            if not self._salvage:
                raise FormatError(f"bytes after the end, at byte {self.total_bytes}")
            self._skip(len(self._buffer), damaged=True)

    def _resynchronise(self) -> None:
        """Skip to the next marker of a block."""
        self._skip(1, damaged=True)
        while (found := self._buffer.find(SYNC)) < 0:
            # Keep the last bytes: they may be the start of a marker.
            self._skip(max(0, len(self._buffer) - len(SYNC) + 1), damaged=True)
            if not self._fill(len(self._buffer) + 1):
                self._skip(len(self._buffer), damaged=True)
                return
        self._skip(found, damaged=True)

    def _fill(self, size: int) -> bool:
        """Read until the buffer has `size` bytes; False if the file ends before."""
        while len(self._buffer) < size:
            data = self._get(max(_READ, size - len(self._buffer)))
            if not data:
                return False
            self._buffer += data
        return True

    def _skip(self, size: int, damaged: bool = False) -> None:
        del self._buffer[:size]
        self.total_bytes += size
        self.damaged_bytes += size if damaged else 0
