"""Entropy coding: codes that are frequent, in training and in their block, take fewer bits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

TOTAL = 1 << 16  # sum of a table's weights
STEP = TOTAL // 32  # the table counts as much as the first 32 codes of a block
_WORD = np.dtype("<u4")


def make_table(counts: np.ndarray) -> np.ndarray:
    """Return integer weights `[cardinality]`, each at least 1, in proportion to `counts`.

    They are the same on any machine: the sum is exact, all else is rounded only once.
    """
    values = np.asarray(counts, np.float64)
    total = math.fsum(values.tolist())
    if len(values) > TOTAL // 2:
        raise ValueError(
            f"entropy coding takes codebooks of up to {TOTAL // 2} entries, got {len(values)}"
        )
    spread = TOTAL - len(values)
    table = 1 + np.floor(values / total * spread).astype(np.int64)
    table[table.argmax()] += TOTAL - table.sum()
    return table


class EntropyCoder:
    """Range coder (constriction's, 32-bit words) with one adaptive table per codebook.

    The weight of each code that occurs is raised by `STEP` for the rest of its block: a second of
    audio uses far fewer codes than the training data. Each block starts with the same tables.

    Args:
        tables: from `make_table`, one per codebook.

    Raises:
        ValueError: constriction is not installed.
    """

    def __init__(self, tables: Sequence[np.ndarray]) -> None:
        try:
            import constriction
        except ImportError as error:
            raise ValueError(
                "entropy coding needs constriction: pip install 'adversarial_trainer[entropy]'"
            ) from error
        self._queue, self._model = constriction.stream.queue, constriction.stream.model
        self.tables = list(tables)

    @cached_property
    def hash(self) -> str:
        """32 hex digits over the tables and over encoded symbols.

        A library or a machine that computes other probabilities is noticed before decoding.
        """
        digest = hashlib.sha256()
        for table in self.tables:
            encoder = self._queue.RangeEncoder()
            encoder.encode(np.arange(len(table), dtype=np.int32), self._categorical(table))
            digest.update(table.astype(_WORD).tobytes() + _to_bytes(encoder))
        digest.update(self.encode(np.arange(8) % [[len(table)] for table in self.tables]))
        return digest.hexdigest()[:32]

    def encode(self, codes: np.ndarray) -> bytes:
        """Encode codes `[K, F]`, codebook by codebook."""
        encoder = self._queue.RangeEncoder()
        for table, row in zip(self.tables, codes.tolist(), strict=True):
            weights = table.copy()
            for code in row:
                encoder.encode(code, self._categorical(weights))
                weights[code] += STEP
        return _to_bytes(encoder)

    def decode(self, data: bytes, frames: int) -> np.ndarray:
        """Return codes int64 `[K, F]`; ValueError for data that `encode` cannot have written."""
        words = np.frombuffer(data + bytes(-len(data) % _WORD.itemsize), _WORD)
        decoder = self._queue.RangeDecoder(words.astype(np.uint32))
        codes = np.empty((len(self.tables), frames), np.int64)
        for table, row in zip(self.tables, codes, strict=True):
            weights = table.copy()
            for frame in range(frames):
                try:
                    code = decoder.decode(self._categorical(weights))
                except AssertionError as error:  # constriction's error for invalid data
                    raise ValueError(f"not entropy coded with these tables: {error}") from error
                row[frame] = code
                weights[code] += STEP
        return codes

    def _categorical(self, weights: np.ndarray) -> Any:
        return self._model.Categorical(weights / weights.sum(), perfect=False)


def _to_bytes(encoder: Any) -> bytes:
    """Return the bytes without zeros at the end, which the decoder appends itself."""
    return bytes(encoder.get_compressed().astype(_WORD).tobytes().rstrip(b"\0"))
