"""A rank that fails, dies, hangs or never starts: the others end, and name it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from ranks import launch
from torch import distributed

from adversarial_trainer import distrib
from adversarial_trainer.training import watchdog

STATUS = watchdog.STATUS


@contextmanager
def group(start: int = 60) -> Iterator[None]:
    """A process group with short limits in seconds."""
    logging.basicConfig(level=logging.INFO)
    watchdog.START_TIMEOUT = timedelta(seconds=start)
    watchdog.FAREWELL = timedelta(seconds=1.5)
    with watchdog.process_group("gloo", hang_timeout=2):
        yield


def goes_well(rank: int) -> None:
    with group():
        assert distrib.all_reduce(torch.ones(1)).item() == distrib.world_size()
        if rank == 0:
            time.sleep(0.5)  # the others are done long before


def fails(rank: int, culprit: int = 1) -> None:
    with group():
        distributed.barrier()
        if rank == culprit:
            raise KeyError("no such thing")
        distributed.barrier()


def rank_zero_fails(rank: int) -> None:
    fails(rank, culprit=0)


def all_fail(rank: int) -> None:
    with group():
        raise ValueError("seed=x: a number is needed")


def dies(rank: int, culprit: int = 1) -> None:
    with group():
        distributed.barrier()
        if rank == culprit:
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.barrier()


def rank_zero_dies(rank: int) -> None:
    dies(rank, culprit=0)


def hangs(rank: int) -> None:
    with group():
        if rank == 1:
            time.sleep(4.5)
            os._exit(7)
        distributed.barrier()


def never_comes(rank: int) -> None:
    if rank != 1:
        with group(start=2):
            pass


def test_a_normal_end_is_quiet(tmp_path: Path) -> None:
    statuses, logs = launch(goes_well, tmp_path, 3)
    assert statuses == [0, 0, 0]
    for rank, log in enumerate(logs):
        (line,) = log.splitlines()
        assert f"Rank {rank} of 3, on {socket.gethostname()}, pid " in line


@pytest.mark.parametrize("worker, culprit", [(fails, 1), (rank_zero_fails, 0)])
def test_a_rank_that_raises(tmp_path: Path, worker: Callable[[int], None], culprit: int) -> None:
    statuses, logs = launch(worker, tmp_path, 3)
    for rank, log in enumerate(logs):
        if rank == culprit:
            assert statuses[rank] == 1 and "Traceback" in log
        else:
            assert statuses[rank] == STATUS and "Traceback" not in log
            assert f"Rank {culprit} ({socket.gethostname()}, pid " in log
            assert ") failed: KeyError: 'no such thing'. This process ends." in log


def test_what_all_raise_is_the_fault_of_none(tmp_path: Path) -> None:
    statuses, logs = launch(all_fail, tmp_path, 2)
    assert statuses == [1, 1]
    assert all("Traceback" in log and "failed:" not in log for log in logs)


@pytest.mark.parametrize("worker", [dies, hangs])
def test_a_rank_that_is_silent(tmp_path: Path, worker: Callable[[int], None]) -> None:
    statuses, logs = launch(worker, tmp_path, 3)
    assert statuses == [STATUS, -signal.SIGKILL if worker is dies else 7, STATUS]
    for rank in (0, 2):
        assert (
            ") does not answer: it has died, hangs or is far behind. This process ends."
            in logs[rank]
        )
        assert "Rank 1 (" in logs[rank] and "Traceback" not in logs[rank]


def test_the_rank_that_holds_the_store_dies(tmp_path: Path) -> None:
    statuses, logs = launch(rank_zero_dies, tmp_path, 2)
    assert statuses == [-signal.SIGKILL, STATUS]
    assert "The process that holds the store (rank 0, or the launcher) has ended." in logs[1]


def test_a_rank_that_never_comes(tmp_path: Path) -> None:
    statuses, logs = launch(never_comes, tmp_path, 3)
    assert statuses == [1, 0, 1]
    assert "StartError: Rank 0 of 3 (" in logs[0] and "within 2 s: " in logs[0]


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        sock.listen()
        port = str(sock.getsockname()[1])
        settings = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
        settings |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        with (
            pytest.raises(watchdog.StartError, match=f"at 127.0.0.1:{port} within .*in use"),
            watchdog.process_group("gloo", 2),
        ):
            pass
    assert not distributed.is_initialized()
