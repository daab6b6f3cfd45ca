"""Mutated files give their codes or a ValueError, soon, and in little memory."""

from __future__ import annotations

import collections
import io
import json
import random
import time
import tracemalloc

from bitstreams import KINDS, coder, write
from mutations import MUTATIONS, mutate

from adversarial_trainer.tools.compress.bitstream import (
    BitstreamReader,
    Block,
    FormatError,
    read_codes,
)
from adversarial_trainer.tools.compress.info import examine

COUNT = 200
MEMORY = 4 << 20  # bytes at most; the inputs are some 2 KB
SECONDS = 1.0  # for one input


def consume(data: bytes, kind: str, salvage: bool) -> str:
    """Read all: "whole", "damaged", or "refused" by a ValueError."""
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
        assert samples < 40_000  # at the model's rate
        assert reader.total_bytes == len(data)
        assert salvage or reader.complete
        return "whole" if reader.complete else "damaged"
    except ValueError as error:
        assert isinstance(error, FormatError)
        assert len(str(error)) < 500
        return "refused"


def test_mutated_files() -> None:
    originals = {kind: write(kind, 60_000 + 41 * n) for n, kind in enumerate(KINDS)}
    names: set[str] = set()
    outcomes: collections.Counter = collections.Counter()
    tracemalloc.start()
    try:
        for number in range(COUNT):
            rng = random.Random(number)
            kind = rng.choice(KINDS)
            name, data = mutate(originals[kind], rng)
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
            names.add(name)
            outcomes[results] += 1
    finally:
        tracemalloc.stop()
    # Every mutation was tried, and every outcome came up.
    assert names == {mutation.__name__ for mutation in MUTATIONS}
    for results in [("refused", "damaged"), ("refused", "refused")]:
        assert outcomes[results] > 1, outcomes
