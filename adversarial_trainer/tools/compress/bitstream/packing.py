"""Codes as bits, without a gap."""

from __future__ import annotations

import numpy as np


def pack(codes: np.ndarray, bits: int) -> bytes:
    """Codes `[K, F]` frame by frame, `bits` bits each, the highest first; zeros up to a byte."""
    flat = codes.T.reshape(-1, 1)  # [K, F] -> [F * K, 1]
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits(((flat >> shifts) & 1).astype(np.uint8)).tobytes()


def unpack(data: bytes, codebooks: int, frames: int, bits: int) -> np.ndarray:
    """Codes int64 `[K, F]` of what `pack` gave; ValueError if it is not as long as they are."""
    count = codebooks * frames
    if len(data) != -(-count * bits // 8):
        raise ValueError(f"{len(data)} bytes for {count} codes of {bits} bits")
    digits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits)
    weights = 1 << np.arange(bits - 1, -1, -1)
    return (digits.reshape(count, bits) @ weights).reshape(frames, codebooks).T
