"""SIGKILL at random moments of a process that saves as fast as it can."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
import torch
from children import forked

from adversarial_trainer import checkpoint


def save_for_ever(path: Path, first: int, pipe: int) -> None:
    for number in range(first, first + 100_000):
        checkpoint.save({"value": number, "weights": torch.full((20_000,), float(number))}, path)
        os.write(pipe, number.to_bytes(4, "big"))  # from here on it must not be lost
        checkpoint.keep_copy(path, number, keep_last=2, keep_every=50)
        checkpoint.keep_as(path, "best")


@pytest.mark.parametrize("kills", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_nothing_is_lost(tmp_path: Path, kills: int) -> None:
    path = tmp_path / "checkpoint.th"
    draw = random.Random(0)
    saved, temporary = 0, 0
    for _ in range(kills):
        reading, writing = os.pipe()
        with forked(save_for_ever, path, saved + 1, writing):
            os.close(writing)
            told = os.read(reading, 4)  # the first one is done
            time.sleep(draw.uniform(0, 0.03))
        with open(reading, "rb") as pipe:
            told += pipe.read()
        newest = int.from_bytes(told[-4:], "big")
        assert newest > saved
        found = checkpoint.load_newest(path)
        assert found is not None and found[0] == path
        assert newest <= found[1]["value"] <= newest + 1
        temporary += len(list(tmp_path.glob("*.tmp")))
        for other in tmp_path.glob("*.th"):
            state = checkpoint.load(other)
            assert torch.equal(state["weights"], torch.full((20_000,), float(state["value"])))
        copies = [int(copy.stem.partition("_")[2]) for copy in checkpoint.copies(path)]
        assert set(range(50, newest, 50)) <= set(copies)
        saved = found[1]["value"]
        checkpoint.keep_copy(path, saved, keep_last=2, keep_every=50)
    assert not list(tmp_path.glob("*.damaged"))
    assert temporary > 0
