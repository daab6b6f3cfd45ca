"""The share of an epoch's time that is spent waiting for data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import make_solver
from ranks import run_ranks

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch
from solvers import waiting
from solvers.state import UnfinishedEpoch
from solvers.waiting import data_wait, track_data_wait


class Clock:
    """Time passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(waiting.time, "monotonic", lambda: self.now)


def test_counts_the_loader_and_not_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def loader() -> Iterator[Batch]:
        for seconds in (5.0, 0.25, 0.5):
            clock.now += seconds
            yield Batch(torch.zeros(1, 1, 4), [])

    epoch, count = UnfinishedEpoch(), 0
    epoch.waiting = 1.0  # of the life before
    for _ in track_data_wait(loader(), epoch):
        count += 1
        clock.now += 30.0
    assert (count, epoch.waiting) == (3, 6.75)


@pytest.mark.parametrize(
    "seconds, waited, warned",
    [(100.0, 11.0, True), (1000.0, 90.0, False), (10.0, 9.0, False), (0.0, 0.0, False)],
)
def test_a_warning_says_what_to_do(
    seconds: float, waited: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    epoch = UnfinishedEpoch()
    epoch.seconds, epoch.waiting = seconds, waited
    with caplog.at_level(logging.WARNING):
        share = data_wait(epoch, num_workers=3)
    assert share == (waited / seconds if seconds else 0)
    assert [r.levelname for r in caplog.records] == ["WARNING"] * warned
    if warned:
        assert "11% of the epoch's 100 s" in caplog.text
        assert "dataset.num_workers (now 3)" in caplog.text and "wav" in caplog.text


def _worst(rank: int) -> None:
    epoch = UnfinishedEpoch()
    epoch.seconds, epoch.waiting = 8.0, [1.0, 2.0][rank]
    assert data_wait(epoch, 0) == 0.25
    assert distrib.world_size() == 2


def test_the_rank_that_waited_longest() -> None:
    run_ranks(_worst, world_size=2)


def test_in_the_history(tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a whole run: a loader that takes its time is seen, over an interruption too."""
    solver: Any = make_solver(tmp_path, audio, "optim.epochs=1", "dataset.num_workers=0")
    read = type(solver.data.train.dataset).__getitem__

    def slow(dataset: Any, item: Any) -> Any:
        time.sleep(0.05)
        return read(dataset, item)

    monkeypatch.setattr(type(solver.data.train.dataset), "__getitem__", slow)
    solver.unfinished.seconds = solver.unfinished.waiting = 50.0
    solver.run()
    train = solver.history[0]["train"]
    asleep = 0.05 * solver.cfg.optim.updates_per_epoch * solver.cfg.dataset.batch_size
    assert asleep + 50 <= train["data_wait"] * train["duration"] < train["duration"]
    assert train["data_wait"] > 0.5
