"""`python -m adversarial_trainer.grids tiny`, at the sizes of micro.py."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import wait_for
from micro import MICRO, ROOT, command, dora_run, write_audio

from adversarial_trainer.train import main

pytestmark = pytest.mark.integ

RUNS = ["none", "msstftd", "mpd", "msd"]  # those of the grid, in its order
LINE = [sys.executable, "-m", "adversarial_trainer.grids", "tiny"]


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("data") / "audio")


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "DORA_DIR": str(folder), "PATH": "/nowhere"}


def run(folder: Path, line: list[str]) -> subprocess.CompletedProcess[str]:
    env = environment(folder)
    return subprocess.run(line, cwd=ROOT, env=env, text=True, capture_output=True, timeout=280)


def grid(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return run(folder, [*LINE, *argv])


def micro(audio: Path, *overrides: str) -> list[str]:
    """The overrides that make the tiny codec quick."""
    return [*MICRO, f"dset.path={audio}", *overrides]


def signature(audio: Path, adversarial: str, *overrides: str) -> str:
    """The signature of the grid's run with these discriminators, and the overrides."""
    argv = ["solver=tiny", f"adversarial={adversarial}", *micro(audio, *overrides)]
    return main.get_xp(argv).sig


def table(output: str) -> dict[str, tuple[str, str]]:
    """Signature -> state and epochs, of the last table printed."""
    rows = re.findall(r"  ([A-Z]{3}|N/A)  ([0-9a-f]{8})\s+\| +(\d+/\d+)", output)
    return {sig: (state, epochs) for state, sig, epochs in rows}


def starts(log: Path) -> int:
    """How many processes wrote to it."""
    return len(re.findall(r"^\$ .* -m dora ", log.read_text(), re.MULTILINE))


def test_the_same_experiments_as_dora_grid(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "dora", "-P", "adversarial_trainer", "grid", "tiny", "--dry_run"]
    dora = run(tmp_path, line)  # needs no SLURM
    local = grid(tmp_path, "--dry_run")
    assert (dora.returncode, local.returncode, dora.stderr) == (0, 0, ""), local.stderr
    assert list(table(local.stdout)) == list(table(dora.stdout))
    assert set(table(local.stdout).values()) == {("PEN", "0/5")}
    for sig, adversarial in zip(table(local.stdout), RUNS, strict=True):
        assert f"\n{sig}: dora run solver=tiny adversarial={adversarial}\n" in local.stdout
    assert not (tmp_path / "xps").exists(), "nothing has been run"


def test_a_grid_is_run_once(tmp_path: Path, audio: Path) -> None:
    """All four, two at a time; the second time there is nothing to do, also for `dora run`."""
    argv = micro(audio, "evaluate.every=1")
    result = grid(tmp_path, "-j", "2", *argv)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    sigs = [signature(audio, name) for name in RUNS]
    assert table(result.stdout) == {sig: ("COM", "2/2") for sig in sigs}
    assert re.search(r"\d+\.\d{3}  +-?\d+\.\d\d  +\d+%", result.stdout), "with its metrics"
    assert "Finished runs: 4 of 4." in result.stdout
    logs = [tmp_path / "xps" / sig / "run.log" for sig in sigs]
    for log in logs:
        assert f"log in {log}" in result.stdout and "Train summary | Epoch 2" in log.read_text()
    assert len(re.findall(r"^\d\d:\d\d:\d\d$", result.stdout, re.MULTILINE)) >= 2, "as they go on"

    again = grid(tmp_path, *argv)
    assert again.returncode == 0 and "Started" not in again.stdout
    assert "Finished runs: 4 of 4." in again.stdout
    assert [starts(log) for log in logs] == [1, 1, 1, 1]
    by_hand = dora_run(*command(tmp_path, audio, "adversarial=mpd"))
    assert "Nothing to do: 2 epochs are done." in by_hand and sigs[2] in by_hand

    # More epochs go on with the same runs, here with one of them.
    more = grid(tmp_path, "mpd", *argv, "optim.epochs=3")
    assert more.returncode == 0 and "Resuming from epoch 2" in logs[2].read_text()
    assert [starts(log) for log in logs] == [1, 1, 2, 1]


def test_ctrl_c_ends_all_and_the_same_command_resumes(tmp_path: Path, audio: Path) -> None:
    argv = micro(audio, "optim.updates_per_epoch=50", "optim.epochs=3")
    sigs = [signature(audio, name, "optim.updates_per_epoch=50") for name in ("none", "mpd")]
    logs = [tmp_path / "xps" / sig / "run.log" for sig in sigs]
    process = subprocess.Popen(
        [*LINE, "-j", "2", "0", "2", *argv],
        cwd=ROOT,
        env=environment(tmp_path),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for(lambda: logs[1].exists() and "Epoch 2 | 5/" in logs[1].read_text())
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in output
    assert "Interrupted, all runs are ended. The same command resumes them." in output
    shown = grid(tmp_path, "0", "2", *argv, "--dry_run")
    assert table(shown.stdout)[sigs[1]] == ("PEN", "1/3")
    result = grid(tmp_path, "0", "2", *argv)
    assert result.returncode == 0, result.stdout[-3000:]
    assert table(result.stdout) == {sig: ("COM", "3/3") for sig in sigs}
    assert re.search(r"from epoch 2, update 5\d \(\d of the 50", logs[1].read_text())
