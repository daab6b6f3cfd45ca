"""Signals to real runs, which save, end, and resume with the next batch."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from micro import ROOT, command, differences, dora_run, without_durations, write_audio
from test_integ import ENV, EVERYTHING, checkpoint_of

pytestmark = pytest.mark.integ

UPDATES = 60
ARGV = [
    *(*EVERYTHING, f"optim.updates_per_epoch={UPDATES}", "optim.epochs=1"),
    *("dataset.num_workers=1", "dataset.valid_samples=4", "checkpoint.every_updates=0"),
    "dataset.batch_size=3",
]
DORA = (sys.executable, "-m", "dora", "-P", "adversarial_trainer", "run")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("data") / "audio", 8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, audio: Path) -> Callable[[int], dict[str, Any]]:
    """A function that gives the final state of an undisturbed run with N processes."""

    @functools.cache
    def run(processes: int) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("whole")
        workers = () if processes == 1 else ("-d", "--ddp_workers", str(processes))
        dora_run(*workers, *command(folder, audio, *ARGV))
        return final_state(folder)

    return run


def final_state(folder: Path) -> dict[str, Any]:
    state = checkpoint_of(folder)
    state["history"] = without_durations(state["history"])
    return {key: value for key, value in state.items() if key != "config_text"}


def watched(
    line: Sequence[str], in_an_update: Callable[[subprocess.Popen[str]], None]
) -> tuple[int, str]:
    """Exit status and output of a run to which something happens in its tenth update."""
    process = subprocess.Popen(
        line, cwd=ROOT, env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    output = ""
    for text in process.stdout:
        output += text
        if "Train | Epoch 1 | 10/" in text:
            in_an_update(process)
    return process.wait(60), output


@pytest.mark.parametrize(
    "start, name, processes",
    [
        (DORA, "SIGINT", 1),
        ((*DORA, "-d", "--ddp_workers", "2"), "SIGUSR1", 2),
        ((*TORCHRUN, *DORA[1:]), "SIGTERM", 2),
    ],
    ids=["one-INT", "dora-d-USR1", "torchrun-TERM"],
)
def test_a_signal(
    tmp_path: Path,
    audio: Path,
    whole: Callable[[int], dict[str, Any]],
    start: tuple[str, ...],
    name: str,
    processes: int,
) -> None:
    line = (*start, *command(tmp_path, audio, *ARGV))
    number = getattr(signal, name)
    status, output = watched(line, lambda process: process.send_signal(number))
    told = "SIGTERM" if "-d" in start else name  # what Dora ends its workers with
    assert f"{told}: the run saves its state after this update, and ends" in output
    match = re.search(r"Saved at epoch 1, update (\d+) \(\1 of the 60 in this epoch\)", output)
    assert match is not None, output[-3000:]
    updates = int(match.group(1))
    assert 10 <= updates < 20, "soon"
    if "torch.distributed.run" not in start:
        assert status == (128 + number if processes == 1 else 1)
        assert "Traceback" not in output
    assert status != 0
    assert checkpoint_of(tmp_path)["updates"] == updates

    result = subprocess.run(
        line, cwd=ROOT, env=ENV, text=True, capture_output=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    state = final_state(tmp_path)
    assert len(state["history"]) == 1 and state["updates"] == UPDATES
    assert differences(state, whole(processes)) == []


@pytest.mark.parametrize("how", ["killed", "no room"])
def test_a_lost_loader_process_is_an_error_in_a_line(tmp_path: Path, audio: Path, how: str) -> None:
    """It does not hang; the same command resumes."""
    line = [*DORA, *command(tmp_path, audio, *ARGV, "checkpoint.every_updates=5")]
    if how == "no room":  # a /dev/shm as small as those of some containers
        script = 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"'
        line = ["unshare", "-m", "sh", "-c", script, "sh", *line, "dataset.batch_size=16"]
        if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
            pytest.skip("mount namespaces need privileges")

    def kill_the_loader(process: subprocess.Popen[str]) -> None:
        if how == "killed":
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            os.kill(int(children.split()[-1]), signal.SIGKILL)

    status, output = watched(line, kill_the_loader)
    assert status == 2, output[-3000:]
    assert output.count("error: A loader process was killed, or had no memory or no room") == 1
    assert "Traceback" not in output
    if how == "killed":
        assert "Resuming from epoch 1, update" in dora_run(*command(tmp_path, audio, *ARGV))
