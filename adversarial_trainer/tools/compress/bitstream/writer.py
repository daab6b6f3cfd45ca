"""Write a bitstream, also to outputs that cannot seek."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from .block import end_block, write_codes
from .entropy import EntropyCoder
from .header import Header, header_crc


class BitstreamWriter:
    """Write codes that come in pieces of any length as a bitstream, block by block.

    Args:
        file: written to in order.
        coder: entropy coder with the tables `header.tables`; None to pack codes.

    Attributes:
        length: samples per channel of the original audio, once finished.
        payload_bytes: bytes of codes and scales so far.
        total_bytes: all bytes so far.
    """

    def __init__(self, file: BinaryIO, header: Header, coder: EntropyCoder | None = None) -> None:
        tables = None if coder is None else coder.hash
        if header.tables != tables:
            raise ValueError(f"the header's tables are {header.tables}, the coder's are {tables}")
        self.header = header
        self.length = 0
        self.payload_bytes = self.total_bytes = 0
        self._file, self._coder = file, coder
        self._sequence = 0
        self._pending = np.zeros((header.codebooks, 0), np.int64)
        data = header.to_bytes()
        self._crc = header_crc(data)
        self._write(data)

    def write(self, codes: np.ndarray, scale: float | None = None) -> None:
        """Append codes `[K, F]`: any number of frames, or one block where they are separate."""
        header = self.header
        if codes.ndim != 2 or len(codes) != header.codebooks or codes.dtype.kind not in "iu":
            raise ValueError(
                f"codes must be integers [{header.codebooks}, F], got {codes.dtype} "
                f"{list(codes.shape)}"
            )
        if codes.size and not 0 <= codes.min() <= codes.max() < header.cardinality:
            raise ValueError(
                f"codes must be in 0..{header.cardinality - 1}, got {codes.min()}..{codes.max()}"
            )
        if (scale is not None) != header.scaled:
            raise ValueError(f"scale is {scale}, but the header says scaled={header.scaled}")
        if header.separate:
            if not 1 <= codes.shape[1] <= header.frames:
                raise ValueError(f"a block has 1..{header.frames} frames, got {codes.shape[1]}")
            self._write_block(codes, scale)
            return
        self._pending = np.concatenate([self._pending, codes], 1)
        while self._pending.shape[1] >= header.frames:
            self._write_block(self._pending[:, : header.frames], scale)
            self._pending = self._pending[:, header.frames :].copy()

    def finish(self, length: int) -> None:
        """Write the last frames and the end, for original audio of `length` samples."""
        if self._pending.shape[1]:
            self._write_block(self._pending, None)
        end = end_block(self.header, length)
        if end.sequence != self._sequence:
            raise ValueError(
                f"{length} samples need {end.sequence} blocks, but {self._sequence} were written"
            )
        self._write(end.to_bytes(self._crc))
        self._file.flush()
        self.length = length

    def _write_block(self, codes: np.ndarray, scale: float | None) -> None:
        block = write_codes(self.header, self._sequence, codes, scale, self._coder)
        self._write(block.to_bytes(self._crc))
        self.payload_bytes += len(block.payload)
        self._sequence += 1

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.total_bytes += len(data)
