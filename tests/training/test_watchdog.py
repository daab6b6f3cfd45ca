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

import pytest
import torch
from ranks import launch
from torch import distributed

from adversarial_trainer import distrib
from adversarial_trainer.training import watchdog

STATUS = watchdog.STATUS
HERE = socket.gethostname()


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
            time.sleep(3)  # beyond hang_timeout: a stage in which it works alone
        assert distrib.broadcast_object(rank) == 0
        if rank == 1:
            time.sleep(3)  # the others have come to the end long before


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


def test_who_works_is_waited_for_and_a_normal_end_is_quiet() -> None:
    statuses, logs = launch(goes_well, 3)
    assert statuses == [0, 0, 0]
    for rank, log in enumerate(logs):
        (line,) = log.splitlines()
        assert f"Rank {rank} of 3, on {HERE}, pid " in line


SILENT = ") does not answer: it has died, hangs or is far behind. This process ends."
FAILED = ") failed: KeyError: 'no such thing'. This process ends."
GONE = "The process that holds the store (rank 0, or the launcher) has ended. This process ends."


@pytest.mark.parametrize(
    "worker, culprit, status, told",
    [
        (fails, 1, 1, f"Rank 1 ({HERE}, pid .*{FAILED}"),
        (rank_zero_fails, 0, 1, f"Rank 0 ({HERE}, pid .*{FAILED}"),
        (dies, 1, -signal.SIGKILL, f"Rank 1 ({HERE}, pid .*{SILENT}"),
        (hangs, 1, 7, f"Rank 1 ({HERE}, pid .*{SILENT}"),
        (rank_zero_dies, 0, -signal.SIGKILL, GONE),
    ],
)
def test_the_others_end_and_name_it(
    worker: Callable[[int], None], culprit: int, status: int, told: str
) -> None:
    statuses, logs = launch(worker, 3)
    assert statuses == [status if rank == culprit else STATUS for rank in range(3)]
    for rank, log in enumerate(logs):
        assert ("Traceback" in log) == (rank == culprit and status == 1)
        if rank != culprit:
            assert all(part in log for part in told.split(".*")), log


def test_what_all_raise_is_the_fault_of_none() -> None:
    statuses, logs = launch(all_fail, 2)
    assert statuses == [1, 1]
    assert all("Traceback" in log and "failed:" not in log for log in logs)


def test_a_rank_that_never_comes() -> None:
    statuses, logs = launch(never_comes, 3)
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
