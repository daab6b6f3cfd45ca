"""Bitstreams of random codes."""

from __future__ import annotations

import functools
import io

import numpy as np

from adversarial_trainer.tools.compress.bitstream.entropy import EntropyCoder, make_table
from adversarial_trainer.tools.compress.bitstream.format import (
    BitstreamWriter,
    Block,
    Header,
    read_codes,
)
from adversarial_trainer.tools.compress.bitstream.reader import BitstreamReader, Gap

# Blocks of 25 frames: one signal, packed and entropy coded; and signals of their own with scales.
STREAM = dict(
    model="0123abcd",
    sample_rate=44_100,
    channels=2,
    model_rate=24_000,
    model_channels=1,
    codebooks=3,
    cardinality=200,
    hop=320,
    segment=8000,
    stride=8000,
)
SEPARATE = STREAM | dict(segment=7900, stride=7821, separate=True, scaled=True)
KINDS = ["packed", "coded", "separate", "separate coded"]


@functools.cache
def coder(kind: str) -> EntropyCoder | None:
    if "coded" not in kind:
        return None
    random = np.random.default_rng(0)
    return EntropyCoder([make_table(row) for row in random.dirichlet(np.full(200, 0.2), 3)])


def header(kind: str, **changes: object) -> Header:
    tables = coder(kind)
    values = SEPARATE if "separate" in kind else STREAM
    return Header(**(values | {"tables": tables and tables.hash} | changes))


def codes_of(header: Header, length: int, seed: int = 0) -> list[tuple[np.ndarray, float | None]]:
    """Codes and scale of each block; as the tables of `coder` have them, so that it pays."""
    random = np.random.default_rng(seed)
    tables = coder("coded")
    assert tables is not None
    blocks = []
    for sequence in range(-(-header.model_samples(length) // header.stride)):
        rest = header.model_samples(length) - sequence * header.stride
        frames = -(-min(header.segment, rest) // header.hop)
        rows = [random.choice(200, frames, p=table / table.sum()) for table in tables.tables]
        scale = float(np.float32(random.random())) if header.scaled else None
        blocks.append((np.stack(rows), scale))
    return blocks


def write(kind: str, length: int, seed: int = 0, **changes: object) -> bytes:
    file = io.BytesIO()
    about = header(kind, **changes)
    writer = BitstreamWriter(file, about, coder(kind))
    for codes, scale in codes_of(about, length, seed):
        writer.write(codes, scale)
    writer.finish(length)
    assert writer.total_bytes == len(file.getvalue())
    return file.getvalue()


def read(
    data: bytes, kind: str, salvage: bool = False
) -> tuple[BitstreamReader, list[tuple[int, np.ndarray, float | None]], list[Gap]]:
    """The reader at its end; number, codes and scale of each block; the gaps."""
    reader = BitstreamReader(io.BytesIO(data), salvage)
    blocks, gaps = [], []
    for item in reader:
        if isinstance(item, Block):
            blocks.append((item.sequence, *read_codes(reader.header, item, coder(kind))))
        else:
            gaps.append(item)
    return reader, blocks, gaps


def blocks_at(data: bytes) -> list[int]:
    """Where each block begins, the end's included, and where the data ends."""
    starts, position = [], 0
    while (position := data.find(b"\xf5ATB", position)) >= 0:
        starts.append(position)
        position += 17 + int.from_bytes(data[position + 15 : position + 17], "little")
    return [*starts, len(data)]
