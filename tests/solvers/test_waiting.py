"""The share of an epoch's time that is spent waiting for data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from micro import make_solver
from ranks import run_ranks

from solvers.state import UnfinishedEpoch
from solvers.waiting import data_wait


def test_a_warning_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    for seconds, waited in ((1000.0, 90.0), (10.0, 9.0), (0.0, 0.0)):
        epoch = UnfinishedEpoch()
        epoch.seconds, epoch.waiting = seconds, waited
        assert data_wait(epoch, num_workers=3) == (waited / seconds if seconds else 0)
    assert not caplog.records
    epoch.seconds, epoch.waiting = 100.0, 11.0
    assert data_wait(epoch, num_workers=3) == 0.11
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "11% of the epoch's 100 s" in caplog.text
    assert "dataset.num_workers (now 3)" in caplog.text and "wav" in caplog.text


def _worst(rank: int) -> None:
    epoch = UnfinishedEpoch()
    epoch.seconds, epoch.waiting = 8.0, [1.0, 2.0][rank]
    assert data_wait(epoch, 0) == 0.25


def test_the_rank_that_waited_longest() -> None:
    run_ranks(_worst, world_size=2)


def test_in_the_history(tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow loader shows in a run's metrics, in addition to what was waited before a resume."""
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
