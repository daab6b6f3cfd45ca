"""Read a bitstream, block by block; with `salvage`, also a damaged one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from .block import END, PREFIX, SYNC, Block, block_size, read_block
from .header import FIXED, FormatError, header_crc, header_size, read_header

_READ = 1 << 16
# Seconds that gaps may have together, on top of what the damaged bytes can have held: a number in
# a few bytes must not become days of silence.
MAX_GAP = 3600


class Gap(NamedTuple):
    """Audio that was lost: its first sample and how many, at the model's rate."""

    start: int
    samples: int


class BitstreamReader:
    """An iterator over the blocks of a bitstream, and over the gaps between them.

    Args:
        file: read from, in order; memory does not grow with its length.
        salvage: go on after damage, instead of a FormatError at the first: give all good blocks,
            in order, and a `Gap` for what is missing.

    Attributes:
        header: what stands at the start.
        length: samples per channel of the audio, at its own rate; None until the end was read, and
            afterwards where it is missing.
        blocks: good ones so far.
        frames: in these.
        coded: how many of these are entropy coded.
        payload_bytes: in these.
        total_bytes: of the file so far.
        damaged_bytes: of the file so far that belong to no good block.
        gaps: those found so far.

    Raises:
        FormatError: here for a bad header, also with `salvage`; while iterating, for damage.
    """

    def __init__(self, file: BinaryIO, salvage: bool = False) -> None:
        # Where there is a choice, what has come in so far, without waiting for more.
        self._get = getattr(file, "read1", file.read)
        self._salvage = salvage
        self._buffer = bytearray()
        self._fill(FIXED)
        size = header_size(bytes(self._buffer[:FIXED]))
        if not self._fill(size):
            raise FormatError(f"it ends after {len(self._buffer)} bytes, inside the header")
        data = bytes(self._buffer[:size])
        self.header = read_header(data)
        self._crc = header_crc(data)
        self.length: int | None = None
        self.blocks = self.frames = self.coded = 0
        self.payload_bytes = self.total_bytes = self.damaged_bytes = 0
        self.gaps: list[Gap] = []
        self._next = 0  # the number that the next block should have
        self._covered = 0  # samples up to here are in blocks, or in gaps
        self._last = 0  # frames of the block before
        self._missing = 0  # samples in all gaps
        self._skip(len(data))

    @property
    def complete(self) -> bool:
        """Whether the end was reached, without any damage."""
        return self.length is not None and not self.gaps and not self.damaged_bytes

    @property
    def end(self) -> int:
        """The sample, at the model's rate, up to which the blocks so far reach."""
        return self._covered

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
                yield from self._end(block)
                return
            yield from self._gap(block.sequence * self.header.stride)
            self._next = block.sequence + 1
            self._last = block.frames
            self._covered = block.sequence * self.header.stride + block.frames * self.header.hop
            self.blocks += 1
            self.frames += block.frames
            self.coded += block.kind
            self.payload_bytes += len(block.payload)
            yield block

    def _read(self) -> Block | None:
        """The next block, which is then behind us; None at the end of a file that is salvaged."""
        if not self._fill(PREFIX):
            if not self._buffer and self._salvage:
                return None
            raise FormatError("the file is truncated")
        size = block_size(self._buffer[:PREFIX], self.header)
        if not self._fill(size):
            raise FormatError("the file is truncated")
        block = read_block(self._buffer[:size], self.header, self._crc)
        self._check_order(block)
        self._skip(size)
        return block

    def _check_order(self, block: Block) -> None:
        if block.sequence < self._next or not self._salvage and block.sequence > self._next:
            raise FormatError(f"block {self._next} should be here, not {block.sequence}")
        if block.kind == END:
            frames = self.header.block_frames(block.sequence - 1, block.length)
            if block.sequence == self._next and self._last != frames:
                raise FormatError(f"the last block has {self._last} frames instead of {frames}")
            return
        # Blocks of one signal cannot come after a short one, nor can ones that overlap be longer.
        start = block.sequence * self.header.stride
        if block.sequence == self._next and self._next:
            if self._covered < start or block.frames > self._last:
                raise FormatError(f"block {block.sequence - 1} is too short")

    def _gap(self, end: int) -> Iterator[Gap]:
        """What is missing up to sample `end`, if anything."""
        if end <= self._covered:
            return
        gap = Gap(self._covered, end - self._covered)
        self._missing += gap.samples
        lost = (self.damaged_bytes // PREFIX + 1) * self.header.stride
        if self._missing > lost + MAX_GAP * self.header.model_rate:
            seconds = self._missing / self.header.model_rate
            raise FormatError(
                f"{seconds:.0f} s are missing: more than {MAX_GAP} s and what the damaged bytes "
                "can have held"
            )
        self.gaps.append(gap)
        yield gap

    def _end(self, block: Block) -> Iterator[Gap]:
        yield from self._gap(self.header.model_samples(block.length))
        self.length = block.length
        while self._fill(1):
            if not self._salvage:
                raise FormatError(f"bytes after the end, at byte {self.total_bytes}")
            self._skip(len(self._buffer), damaged=True)

    def _resynchronise(self) -> None:
        """Go on to where the next block may begin."""
        self._skip(1, damaged=True)
        while (found := self._buffer.find(SYNC)) < 0:
            # The last bytes may be the first ones of a marker.
            self._skip(max(0, len(self._buffer) - len(SYNC) + 1), damaged=True)
            if not self._fill(len(self._buffer) + 1):
                self._skip(len(self._buffer), damaged=True)
                return
        self._skip(found, damaged=True)

    def _fill(self, size: int) -> bool:
        """Have `size` bytes in the buffer; False where the file ends before."""
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
