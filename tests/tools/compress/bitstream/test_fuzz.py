"""Mutated files: ValueError or nothing, soon, and in little memory."""

from __future__ import annotations

import collections
import io
import json
import random
import time
import tracemalloc

import pytest
from bitstreams import KINDS, coder, write
from mutations import SIMPLE, STRUCTURED, mutate

from adversarial_trainer.tools.compress.bitstream import (
    BitstreamReader,
    Block,
    FormatError,
    read_codes,
)
from adversarial_trainer.tools.compress.info_command import examine

MEMORY = 4 << 20  # bytes at the most, beyond what the imports take; the inputs are some 2 KB
SECONDS = 1.0  # for one input


def consume(data: bytes, kind: str, salvage: bool) -> str:
    """Read all; "whole", "damaged" or "refused". Everything but a ValueError is let through."""
    try:
        reader = BitstreamReader(io.BytesIO(data), salvage)
        samples = 0
        for item in reader:
            if isinstance(item, Block):
                codes, _ = read_codes(reader.header, item, coder(kind))
                assert codes.shape == (reader.header.codebooks, item.frames)
                assert 0 <= codes.min() <= codes.max() < reader.header.cardinality
            else:
                samples += item.samples
        rate, stride = reader.header.model_rate, reader.header.stride
        assert samples <= 3600 * rate + (reader.damaged_bytes // 17 + 1) * stride
        assert reader.total_bytes == len(data)
        assert salvage or reader.complete
        return "whole" if reader.complete else "damaged"
    except ValueError as error:
        assert isinstance(error, FormatError) or "entropy coder with the tables" in str(error)
        assert len(str(error)) < 500
        return "refused"


def fuzz(count: int, seed: int) -> tuple[collections.Counter, float, int]:
    """What became of `count` inputs; the longest time and the most memory one took."""
    originals = {kind: write(kind, 60_000 + 41 * n) for n, kind in enumerate(KINDS)}
    outcomes: collections.Counter = collections.Counter()
    slowest, most = 0.0, 0
    tracemalloc.start()
    try:
        for number in range(count):
            rng = random.Random(f"{seed} {number}")
            kind = rng.choice(KINDS)
            name, data = mutate(originals[kind], rng)
            tracemalloc.reset_peak()
            before, start = tracemalloc.get_traced_memory()[0], time.process_time()
            results = [consume(data, kind, salvage) for salvage in (False, True)]
            try:
                json.dumps(examine(io.BytesIO(data)), allow_nan=False)
            except FormatError:
                results.append("no info")
            slowest = max(slowest, time.process_time() - start)
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
            if data == originals[kind]:
                assert results == ["whole", "whole"]
            outcomes[(name, *results)] += 1
    finally:
        tracemalloc.stop()
    return outcomes, slowest, most


def check(count: int, seed: int) -> None:
    outcomes, slowest, most = fuzz(count, seed)
    assert outcomes.total() == count
    assert slowest < SECONDS and most < MEMORY, (slowest, most)
    # It was a test of something: all mutations, and all ends.
    assert {key[0] for key in outcomes} == {f.__name__ for f in [*SIMPLE, *STRUCTURED]}
    ends = collections.Counter(key[1:3] for key in outcomes.elements())
    for end in [("refused", "damaged"), ("refused", "refused"), ("whole", "whole")]:
        assert ends[end] > count // 500, ends
    print(f"{count} inputs: {dict(ends)}, slowest {slowest:.3f} s, {most} bytes")


def test_some_mutated_files() -> None:
    check(300, seed=1)


@pytest.mark.slow
def test_a_hundred_thousand_mutated_files() -> None:
    check(100_000, seed=2)
