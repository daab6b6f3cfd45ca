"""How a process ends after a signal; on a real cluster in test_slurm.py."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from solvers.interruption import Interruption


class Submitit:
    """Stands in for submitit's signal handlers."""

    def __init__(self) -> None:
        self.requeued: list[int] = []

    def bypass(self, signum: int, frame: object) -> None:
        """For SIGTERM."""

    def checkpoint_and_try_requeue(self, signum: int, frame: object) -> None:
        """For SIGUSR2; returns where the rank is not the first."""
        self.requeued.append(signum)


@pytest.fixture
def submitit() -> object:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    handlers = Submitit()
    signal.signal(signal.SIGTERM, handlers.bypass)
    signal.signal(signal.SIGUSR2, handlers.checkpoint_and_try_requeue)
    yield handlers
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupted_by(*signals: int) -> Interruption:
    with Interruption() as interruption:
        for number in signals:
            os.kill(os.getpid(), number)
    return interruption


def status_of(interruption: Interruption) -> object:
    with pytest.raises(SystemExit) as end:
        interruption.leave()
    return end.value.code


def test_the_first_of_several_signals_counts() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)]
    interruption = interrupted_by(signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1)
    assert interruption.name == "SIGUSR1"
    assert status_of(interruption) == 128 + signal.SIGUSR1
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)] == before


def test_a_warning_requeues_the_job(submitit: Submitit) -> None:
    """Whichever signal SLURM was asked to send; SIGTERM alone does not."""
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        assert status_of(interrupted_by(number)) == 0
    assert submitit.requeued == [signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("state, requeued", [("RUNNING", True), ("CANCELLED", False), ("", False)])
def test_sigterm_requeues_a_job_that_slurm_lists_as_running(
    submitit: Submitit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, requeued: bool
) -> None:
    """As before a preemption; a job that was cancelled stays so."""
    script = tmp_path / "squeue"
    script.write_text(f'#!/bin/sh\n[ "$*" = "--noheader --jobs 7 --format %T" ] && echo {state}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert status_of(interrupted_by(signal.SIGTERM)) == 0
    assert submitit.requeued == ([signal.SIGTERM] if requeued else [])


def test_ctrl_c_twice_ends_at_once() -> None:
    pid = os.fork()
    if pid == 0:
        with Interruption():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGINT


def test_what_is_ignored_stays_so() -> None:
    """As SIGHUP after `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert interrupted_by(signal.SIGHUP).signum is None
    signal.signal(signal.SIGHUP, before)
