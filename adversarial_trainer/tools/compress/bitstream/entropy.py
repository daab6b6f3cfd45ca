"""Entropy coding: codes that are frequent, in training and in their block, take fewer bits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from .header import FormatError

TOTAL = 1 << 16  # what the weights of a table sum to
STEP = TOTAL // 32  # so that the table counts as much as the first 32 codes of a block
_WORD = np.dtype("<u4")


def make_table(counts: np.ndarray) -> np.ndarray:
    """Integer weights `[cardinality]`, each at least 1, in proportion to `counts`.

    The same on any machine: sums are exact, and nothing else is rounded more than once.
    """
    values = np.asarray(counts, np.float64)
    total = math.fsum(values.flatten().tolist())
    if values.ndim != 1 or len(values) < 2 or not values.min() >= 0 or not 0 < total < math.inf:
        raise ValueError("counts must be a row of two or more numbers, none negative, not all zero")
    if len(values) > TOTAL // 2:
        raise ValueError(f"entropy coding takes codebooks of up to {TOTAL // 2}, got {len(values)}")
    spread = TOTAL - len(values)
    table = 1 + np.floor(values / total * spread).astype(np.int64)
    table[table.argmax()] += TOTAL - table.sum()
    return table


class EntropyCoder:
    """A range coder (constriction's, 32-bit words) with one table a codebook.

    Each code that occurred counts `STEP` more for the rest of its block: a second of a signal
    uses far fewer codes than the training data. Blocks know nothing of one another.

    Args:
        tables: of `make_table`, one a codebook.
    """

    def __init__(self, tables: Sequence[np.ndarray]) -> None:
        self._queue, self._model = _constriction()
        self.tables = list(tables)

    @cached_property
    def hash(self) -> str:
        """32 hex digits over the tables and what the coder makes of each symbol: a library or a
        machine that computes anything else is found out before it decodes something wrong."""
        digest = hashlib.sha256()
        for table in self.tables:
            encoder = self._queue.RangeEncoder()
            encoder.encode(np.arange(len(table), dtype=np.int32), self._categorical(table))
            digest.update(table.astype(_WORD).tobytes() + _to_bytes(encoder))
        digest.update(self.encode(np.arange(8) % [[len(table)] for table in self.tables]))
        return digest.hexdigest()[:32]

    def encode(self, codes: np.ndarray) -> bytes:
        """Bytes of codes `[K, F]`, codebook by codebook."""
        encoder = self._queue.RangeEncoder()
        for table, row in zip(self.tables, codes.tolist(), strict=True):
            weights = table.copy()
            for code in row:
                encoder.encode(code, self._categorical(weights))
                weights[code] += STEP
        return _to_bytes(encoder)

    def decode(self, data: bytes, codebooks: int, frames: int) -> np.ndarray:
        """Codes int64 `[K, F]`; FormatError for what `encode` cannot have given."""
        if codebooks != len(self.tables):
            raise FormatError(f"{codebooks} codebooks with tables for {len(self.tables)}")
        words = np.frombuffer(data + bytes(-len(data) % _WORD.itemsize), _WORD)
        decoder = self._queue.RangeDecoder(words.astype(np.uint32))
        codes = np.empty((codebooks, frames), np.int64)
        for table, row in zip(self.tables, codes, strict=True):
            weights = table.copy()
            for frame in range(frames):
                try:
                    code = decoder.decode(self._categorical(weights))
                except AssertionError as error:  # what the library makes of such data
                    raise FormatError(f"not entropy coded with these tables: {error}") from error
                row[frame] = code
                weights[code] += STEP
        return codes

    def _categorical(self, weights: np.ndarray) -> Any:
        return self._model.Categorical(weights / weights.sum(), perfect=False)


def _to_bytes(encoder: Any) -> bytes:
    """Zeros at the end are left out: the decoder has them of itself."""
    return bytes(encoder.get_compressed().astype(_WORD).tobytes().rstrip(b"\0"))


def _constriction() -> tuple[Any, Any]:
    try:
        import constriction
    except ImportError as error:
        raise ImportError(
            "entropy coding needs constriction: pip install 'adversarial_trainer[entropy]'"
        ) from error
    return constriction.stream.queue, constriction.stream.model
