"""Write a bitstream, also to outputs that cannot seek."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from .entropy import EntropyCoder
from .format import Header, end_block, header_crc, write_codes


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
        if self.header.separate:
            self._write_block(codes, scale)
            return
        frames = self.header.frames
        self._pending = np.concatenate([self._pending, codes], 1)
        while self._pending.shape[1] >= frames:
            self._write_block(self._pending[:, :frames], scale)
            self._pending = self._pending[:, frames:].copy()

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
