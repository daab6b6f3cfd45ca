"""Scores and their means: by hand, by scipy, in other processes, and no process left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from children import members, wait_for
from scipy import stats

from adversarial_trainer.tools.evaluate import get_scorer
from adversarial_trainer.tools.evaluate.results import estimate
from adversarial_trainer.tools.evaluate.scoring import Task, score_in_processes

RATE = 16000
SCORER = get_scorer({"metrics": {"mel": True, "stft": False, "sisnr": True}}, RATE)


def tasks(count: int = 5) -> list[Task]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for index in range(count):
        real = 0.3 * torch.randn(1, RATE + index, generator=generator)
        noise = 0.3 * torch.randn(real.shape, generator=generator)
        fakes = {1.0: real + noise, 2.0: real + noise / 2}
        found.append(Task(index, f"{index}.wav", real, fakes, ["mel", "sisnr"]))
    return found


def test_means_and_intervals() -> None:
    """t(0.975, 3) = 3.1824 in any table; mean 2.5, s = 1.2910, s / sqrt(4) = 0.6455."""
    found = estimate([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5 and found.count == 4
    assert (found.high or 0) - 2.5 == pytest.approx(3.1824 * 0.6455, abs=1e-3)
    for count in (2, 7, 500):
        values = np.random.default_rng(count).normal(3, 2, count)
        low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
        found = estimate([None, *values])  # what has no value is left out
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert estimate([1.0, 3.0]).format(2) == "2.00 ± 12.71"
    one = estimate([None, 5.0])
    assert (one.mean, one.low, one.high, one.count) == (5, None, None, 1)
    assert one.format(1) == "5.0" and estimate([]).format(1) == "–"


def test_a_sample_of_the_files_is_spread_over_them() -> None:
    for total in (1, 2, 7, 101):
        for limit in (1, 3, 8, 200):
            settings = {"metrics": {"mel": True, "stft": True}, "mel": {"num_files": limit}}
            scorer = get_scorer(settings, RATE)
            metrics = [scorer.metrics_of(index, total) for index in range(total)]
            assert all("stft" in names for names in metrics)
            taken = [index for index, names in enumerate(metrics) if "mel" in names]
            assert len(taken) == min(limit, total) and taken[0] == 0
            gaps = {b - a for a, b in zip(taken, [*taken[1:], total], strict=True)}
            assert max(gaps) - min(gaps) <= 1


@pytest.mark.slow
def test_two_processes_give_the_same_numbers_and_pass_errors_on() -> None:
    for ours, expected in zip(score_in_processes(SCORER, tasks(), 2), map(SCORER, tasks()),
                              strict=True):  # fmt: skip
        for row, other in zip(ours.rows, expected.rows, strict=True):
            assert row.keys() == other.keys() and row["system"] == "model"
            for name in ("bandwidth", "mel", "sisnr"):
                assert row[name] == pytest.approx(other[name], rel=1e-5)
    broken = [task._replace(real=task.real[:, :-1]) for task in tasks(1)]
    with pytest.raises(ValueError, match=r"\[1, 1, 16000\].*\[1, 1, 15999\]"):
        list(score_in_processes(SCORER, broken, 1))
    assert not multiprocessing.active_children()
    # One that dies, as by the out-of-memory killer, is an error and no hang.
    scores = score_in_processes(SCORER, tasks(50), 1)
    next(scores)
    (process,) = multiprocessing.active_children()
    process.kill()
    with pytest.raises(ChildProcessError, match=r"died .*\d.wav"):
        list(scores)
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_no_process_is_left_behind(run: Path, signum: signal.Signals) -> None:
    """Ctrl-C of a terminal goes to all of them; a kill to the first alone, and the others see it
    once they have started."""
    command = [sys.executable, "-m", "adversarial_trainer.cli", "evaluate", str(run), "--jobs", "2",
               "--metrics", "visqol", "--data", str(run.parents[2] / "audio")]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        # It, two workers, and Python's tracker of their semaphores.
        wait_for(lambda: len(members(process.pid)) >= 4)
        time.sleep(1)
        if signum == signal.SIGINT:
            os.killpg(process.pid, signum)
        else:
            process.kill()
        _, err = process.communicate(timeout=60)
        if signum == signal.SIGINT:
            assert process.returncode == 130 and "Traceback" not in err, err[-2000:]
        wait_for(lambda: not members(process.pid))
    finally:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
