"""Bitstreams made wrong in many ways."""

from __future__ import annotations

import random
from collections.abc import Callable

from bitstreams import blocks_at


def flip(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def extreme(data: bytearray, rng: random.Random) -> bytearray:
    """Two to eight bytes of all ones, zeros, or the largest positive number."""
    size = rng.choice([1, 2, 4, 8])
    start = rng.randrange(len(data))
    value = rng.choice([b"\xff" * size, bytes(size), b"\xff" * (size - 1) + b"\x7f"])
    data[start : start + size] = value
    return data


def truncate(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def splice(data: bytearray, rng: random.Random) -> bytearray:
    """A part of the file, or of noise, put in or over another part."""
    start, other = rng.randrange(len(data)), rng.randrange(len(data))
    size = rng.choice([1, 4, 17, 100, 1000])
    part = bytes(data[other : other + size]) if rng.random() < 0.7 else rng.randbytes(size)
    data[start : start + (len(part) if rng.random() < 0.5 else 0)] = part
    return data


def cut_out(data: bytearray, rng: random.Random) -> bytearray:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice([1, 4, 17, 100, 1000])]
    return data


def shuffle(data: bytearray, rng: random.Random) -> bytearray:
    """Whole blocks left out, doubled, in another order."""
    starts = blocks_at(bytes(data))
    blocks = [data[a:b] for a, b in zip(starts, starts[1:], strict=False)]
    blocks = rng.choices(blocks, k=rng.randrange(2 * len(blocks))) if blocks else []
    return data[: starts[0]] + b"".join(blocks)


MUTATIONS: list[Callable[[bytearray, random.Random], bytearray]] = [
    shuffle,
    flip,
    extreme,
    truncate,
    splice,
    cut_out,
]


def mutate(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Its name, and the data after one to three mutations, the first of them whole."""
    changed = bytearray(data)
    first, *more = rng.choices(MUTATIONS, k=rng.randrange(1, 4))
    changed = first(changed, rng)
    for mutation in more:
        if changed and mutation is not shuffle:
            changed = mutation(changed, rng)
    return first.__name__, bytes(changed)
