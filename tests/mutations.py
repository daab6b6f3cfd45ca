"""Bitstreams made wrong in many ways."""

from __future__ import annotations

import json
import random
import struct
import zlib
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


NUMBERS = [0, 1, 2, 3, -1, 255, 65535, 65536, 2**31, 2**32 - 1, 2**36, 2**63, 2**64, 10**40]
VALUES = [*NUMBERS, 1.5, 1e308, None, True, False, "", "ab", "g" * 200, [], {}, [[]], "\0", "é"]


def header(data: bytearray, rng: random.Random) -> bytearray:
    """Other JSON in the header, with a right CRC; often the blocks are made to fit it."""
    size = int.from_bytes(data[10:12], "little")
    values = json.loads(data[12 : 12 + size])
    for _ in range(rng.choice([1, 1, 2, 4])):
        key = rng.choice([*values, "more"])
        old = values.get(key)
        near = type(old) is int and rng.random() < 0.5
        values[key] = old + rng.choice([-1, 1, old]) if near else rng.choice(VALUES)
        if rng.random() < 0.1:
            del values[key]
    text = json.dumps(values).encode()
    odd = [
        b"",
        b"null",
        b"[" * 4000,
        b'{"a":' * 800,
        b"1" * 4096,
        b"NaN",
        b"\xff",
        rng.randbytes(50),
    ]
    if rng.random() < 0.1:
        text = rng.choice(odd)
    start = data[:10] + struct.pack("<H", len(text)) + text
    start += struct.pack("<I", zlib.crc32(start))
    return recompute(start + data[16 + size :], rng)


def fields(data: bytearray, rng: random.Random) -> bytearray:
    """Another kind, number, count of frames, length or payload of a block, with a right CRC."""
    starts = blocks_at(bytes(data))[:-1]
    for _ in range(rng.choice([1, 1, 3])):
        at = rng.choice(starts) + 8
        part, size = rng.choice([(0, 1), (1, 4), (5, 2), (7, 2), (9, 8)])
        value = rng.choice([*NUMBERS, rng.getrandbits(8 * size)])
        old = int.from_bytes(data[at + part : at + part + size], "little")
        value = old + rng.choice([-1, 1]) if rng.random() < 0.4 else value
        data[at + part : at + part + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return recompute(data, rng)


def recompute(data: bytearray, rng: random.Random) -> bytearray:
    """Right CRCs for all blocks."""
    size = 12 + int.from_bytes(data[10:12], "little")
    crc = zlib.crc32(data[:size])
    starts = blocks_at(bytes(data))
    for a, b in zip(starts, starts[1:], strict=False):
        end = min(b, a + 17 + int.from_bytes(data[a + 15 : a + 17], "little"))
        data[a + 4 : a + 8] = struct.pack("<I", zlib.crc32(data[a + 8 : end], crc))
    return data


SIMPLE: list[Callable[[bytearray, random.Random], bytearray]] = [
    flip,
    extreme,
    truncate,
    splice,
    cut_out,
]
# These need a file that still has a header and blocks.
STRUCTURED = [shuffle, header, fields]


def mutate(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Its name, and the data after one to three mutations."""
    changed, names = bytearray(data), []
    if rng.random() < 0.6:
        mutation = rng.choice(STRUCTURED)
        changed, names = mutation(changed, rng), [mutation.__name__]
    for _ in range(rng.randrange(0 if names else 1, 3)):
        if changed:
            mutation = rng.choice(SIMPLE)
            changed, names = mutation(changed, rng), [*names, mutation.__name__]
    return names[0], bytes(changed)
