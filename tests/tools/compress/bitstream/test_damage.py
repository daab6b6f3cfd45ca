"""Damage is noticed, and with `salvage` costs no more than the blocks it is in.

Whatever the bytes are: they give their codes or a FormatError, soon, and in little memory.
"""

import collections
import io
import json
import random
import time
import tracemalloc

import numpy as np
import pytest
from bitstreams import KINDS, blocks_at, codes_of, header, read, write

from adversarial_trainer.tools.compress.bitstream.format import FormatError
from adversarial_trainer.tools.compress.bitstream.reader import BitstreamReader, Gap
from adversarial_trainer.tools.compress.info import examine

LENGTH = 100_000  # 54422 samples at the model's rate, seven blocks


def salvaged(data: bytes, kind: str, lost: set[int]) -> list[Gap]:
    """Check that all blocks but `lost` come back; the gaps."""
    _, blocks, gaps = read(data, kind, salvage=True)
    wanted = codes_of(header(kind), LENGTH)
    assert [number for number, _, _ in blocks] == sorted(set(range(7)) - lost)
    for number, codes, scale in blocks:
        assert np.array_equal(codes, wanted[number][0]) and scale == wanted[number][1]
    return gaps


def refused(data: bytes, kind: str, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        read(data, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_counts(kind: str) -> None:
    """One bit changed anywhere: refused, and the blocks it is not in come back."""
    data = write(kind, LENGTH)
    starts = blocks_at(data)
    for position in range(0, len(data), 37):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        refused(bytes(changed), kind, ".")
        if position < starts[0]:
            with pytest.raises(FormatError):
                BitstreamReader(io.BytesIO(changed), salvage=True)
            continue
        block = sum(start <= position for start in starts) - 1
        gaps = salvaged(bytes(changed), kind, {block} - {7})
        assert len(gaps) == (block < 7)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation(kind: str) -> None:
    data = write(kind, LENGTH)
    starts = blocks_at(data)
    for size in range(0, len(data), 31):
        if size < starts[0]:
            for salvage in (False, True):
                with pytest.raises(FormatError, match="inside the header|not an .atc file"):
                    BitstreamReader(io.BytesIO(data[:size]), salvage)
            continue
        refused(data[:size], kind, "truncated, at byte")
        whole = sum(start <= size for start in starts[1:])
        assert salvaged(data[:size], kind, set(range(whole, 7))) == []
        reader, _, _ = read(data[:size], kind, salvage=True)
        assert reader.length is None and not reader.complete
        assert reader.damaged_bytes == size - starts[whole]


def test_gaps_are_at_their_time() -> None:
    data = write("packed", LENGTH)
    starts = blocks_at(data)
    head, blocks = data[: starts[0]], [data[a:b] for a, b in zip(starts, starts[1:], strict=False)]

    def without(*lost: int) -> bytes:
        return head + b"".join(block for n, block in enumerate(blocks) if n not in lost)

    for lost, gap, match in [
        ([0], (0, 8000), "block 0 expected, found block 1"),
        ([2, 3], (16_000, 16_000), "block 2 expected, found block 4"),
        # The last block: from its start to the end of the audio, not of its frame.
        ([6], (48_000, 54_422 - 48_000), "block 6 expected, found block 7"),
    ]:
        refused(without(*lost), "packed", match)
        assert salvaged(without(*lost), "packed", set(lost)) == [gap]
    # Noise between blocks, other files' blocks, and markers in it, cost nothing.
    other = write("packed", LENGTH, seed=1, channels=1)[starts[0] :]
    for noise in (b"\xf5ATB" * 9, b"\xf5A", bytes(70_000), other):
        messy = head + blocks[0] + noise + b"".join(blocks[1:])
        refused(messy, "packed", "at byte")
        assert salvaged(messy, "packed", set()) == []
    # Doubled blocks and late ones are left out.
    messy = head + b"".join(blocks[n] for n in (0, 1, 1, 2, 4, 3, 5, 6, 7))
    refused(messy, "packed", "block 2 expected, found block 1")
    assert salvaged(messy, "packed", {3}) == [(24_000, 8000)]
    refused(data + b"x", "packed", f"bytes after the end, at byte {len(data)}")


@pytest.mark.parametrize(
    "data, match",
    [
        (b"", "not an .atc file"),
        (b"RIFF1234WAVE", "not an .atc file: it begins with b'RIFF"),
        (b"\x89ATC\n\x1a\n\1\0", "not an .atc file"),  # went through a text-mode transfer
        (b"\x89ATC\r\n\x1a\n\2\0\0\0", "version 2; this program reads version 1"),
        (b"\x89ATC\r\n\x1a\n\1\0\1\x10", "a header of 4097 bytes; at most 4096"),
    ],
)
def test_other_files(data: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        BitstreamReader(io.BytesIO(data))


MEMORY = 4 << 20  # bytes at most; the inputs are some 2 KB
SECONDS = 1.0  # for one input


def mutate(data: bytearray, random: random.Random) -> bytearray:
    """Flip bits, put in extreme numbers or other parts, cut out, cut off, move blocks."""
    at, other = random.randrange(len(data)), random.randrange(len(data))
    size = random.choice([1, 2, 4, 8, 17, 100, 1000])
    kind = random.randrange(6)
    if kind == 0:
        for _ in range(random.choice([1, 1, 8, 64])):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif kind == 1:
        data[at : at + 4] = random.choice([b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"])
    elif kind == 2:
        part = data[other : other + size] if random.random() < 0.7 else random.randbytes(size)
        data[at : at + random.choice([0, len(part)])] = part
    elif kind == 3:
        del data[at : at + size]
    elif kind == 4:
        del data[at:]
    elif starts := blocks_at(bytes(data))[:-1]:
        blocks = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
        data = data[: starts[0]] + b"".join(random.choices(blocks, k=random.randrange(12)))
    return data


def consume(data: bytes, kind: str, salvage: bool) -> str:
    """Read all: "whole", "damaged", or "refused" by a FormatError."""
    try:
        reader, blocks, gaps = read(data, kind, salvage)
    except FormatError as error:
        assert len(str(error)) < 500
        return "refused"
    for _, codes, _ in blocks:
        assert codes.shape[0] == reader.header.codebooks
        assert 0 <= codes.min() <= codes.max() < reader.header.cardinality
    assert sum(gap.samples for gap in gaps) < 40_000  # at the model's rate
    assert reader.total_bytes == len(data)
    assert salvage or reader.complete
    return "whole" if reader.complete else "damaged"


def test_mutated_files() -> None:
    originals = {kind: write(kind, 60_000 + 41 * n) for n, kind in enumerate(KINDS)}
    outcomes: collections.Counter = collections.Counter()
    tracemalloc.start()
    try:
        for number in range(200):
            rng = random.Random(number)
            kind = rng.choice(KINDS)
            changed = bytearray(originals[kind])
            for _ in range(rng.randrange(1, 4)):
                changed = mutate(changed, rng) if changed else changed
            data = bytes(changed)
            tracemalloc.reset_peak()
            before, start = tracemalloc.get_traced_memory()[0], time.process_time()
            results = consume(data, kind, False), consume(data, kind, True)
            try:
                json.dumps(examine(io.BytesIO(data)), allow_nan=False)
            except FormatError:
                assert results == ("refused", "refused")
            assert time.process_time() - start < SECONDS
            assert tracemalloc.get_traced_memory()[1] - before < MEMORY
            if data == originals[kind]:
                assert results == ("whole", "whole")
            outcomes[results] += 1
    finally:
        tracemalloc.stop()
    for results in [("refused", "damaged"), ("refused", "refused")]:
        assert outcomes[results] > 1, outcomes
