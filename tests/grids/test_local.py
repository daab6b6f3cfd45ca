"""Processes, GPUs and signals of the local runner, with scripts in place of training; and which
experiments its command line selects."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from children import members, wait_for
from dora.conf import DoraConfig
from dora.main import DecoratedMain
from dora.xp import XP
from omegaconf import OmegaConf

from adversarial_trainer.grids.__main__ import main
from adversarial_trainer.grids._local import LocalRun, end_all, run_all, visible_gpus

MAIN: Any = None  # scripts need none
# What a run of one epoch leaves behind.
FINISH = "open('{folder}/history.json', 'w').write('[{{}}]')\n"


class Script(LocalRun):
    """A run that is a Python script; `{folder}` in it is the run's."""

    def __init__(self, folder: Path, sig: str, script: str) -> None:
        cfg = OmegaConf.create({"optim": {"epochs": 1}})
        super().__init__(XP(dora=DoraConfig(dir=folder), cfg=cfg, argv=[], sig=sig))
        self.script = script.format(folder=self.xp.folder)

    def command(self, main: DecoratedMain) -> list[str]:
        return [sys.executable, "-c", self.script]


def run_here(runs: list[Script], jobs: int = 1) -> None:
    run_all(runs, MAIN, jobs, lambda: None)


def last_line(run: Script) -> str:
    """The last line that it has printed."""
    return run.output.read_text().splitlines()[-1]


def test_each_run_at_a_time_has_a_gpu_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six runs, three at a time, on three GPUs: at no time are two of them on one."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b,GPU-c")
    assert visible_gpus() == ["a", "b", "GPU-c"]
    monkeypatch.setattr("adversarial_trainer.grids._local.cores", lambda: 8)
    script = (
        "import os, pathlib, time\n"
        f"here = pathlib.Path('{tmp_path}'); gpu = here / os.environ['CUDA_VISIBLE_DEVICES']\n"
        "os.close(os.open(gpu, os.O_CREAT | os.O_EXCL)); (here / f'met{{os.getpid()}}').touch()\n"
        # the first three meet only if they run at the same time
        "[time.sleep(0.05) for _ in range(400) if len(list(here.glob('met*'))) < 3]\n"
        "assert len(list(here.glob('met*'))) >= 3\n"
        "gpu.unlink(); print(os.environ['OMP_NUM_THREADS'])\n" + FINISH
    )
    runs = [Script(tmp_path, f"{index}", script) for index in range(6)]
    run_here(runs, jobs=3)
    assert [run.state() for run in runs] == ["COMPLETED"] * 6
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == [
        f"Started on GPU {gpu}: {run.name}, log in {run.output}"
        for gpu, run in zip(visible_gpus(), runs, strict=False)
    ]
    assert {last_line(run) for run in runs} == {"2"}, "a share of the cores"


def test_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No GPU and no share of the threads is set, and a failure stops nothing."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for given in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    script = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'unset'))\n" + FINISH
    runs = [
        Script(tmp_path, "a", script),
        Script(tmp_path, "b", "raise SystemExit('broken')"),
        Script(tmp_path, "c", "import os; os.kill(os.getpid(), 9)"),
        Script(tmp_path, "d", "pass"),
        Script(tmp_path, "e", script),
    ]
    run_here(runs)
    told = [line.split(",")[0] for line in capsys.readouterr().out.splitlines() if ": " in line]
    ends = ["Finished", "Failed", "Failed", "Failed", "Finished"]
    assert told == [
        f"{what}: {run.name}"
        for run, end in zip(runs, ends, strict=True)
        for what in ("Started", end)
    ]
    assert [last_line(run) for run in runs[:2]] == ["unset", "broken"]
    hows = ("exit status 1", "SIGKILL", "exit status 0")
    assert [run.failure for run in runs[1:4]] == [f"{how} after 0 epochs" for how in hows]
    assert [run.state() for run in runs[:2]] == ["COMPLETED", "FAILED"]

    # Another runner tries it again.
    again = Script(tmp_path, "b", script)
    assert again.state() == "PENDING" and Script(tmp_path, "e", script).state() == "COMPLETED"
    run_here([again])
    assert again.state() == "COMPLETED" and not again.failure
    assert again.output.read_text().count("$ ") == 2, "logs follow one another"


def test_two_runners_do_not_share_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process has the lock, not the runner, which may be killed."""
    first = Script(tmp_path, "a", "import time; time.sleep(60)")
    assert first.start(MAIN, {}) and first.process is not None
    second = Script(tmp_path, "a", FINISH)
    run_here([second])
    assert capsys.readouterr().out == "Skipped, another local runner has it: a\n"
    end_all([first.process])
    run_here([second])
    assert second.state() == "COMPLETED"


def test_what_slurm_runs_is_left_to_it(tmp_path: Path) -> None:
    run = Script(tmp_path, "a", FINISH)
    for word in ("RUNNING", "PENDING", "COMPLETED", "FAILED", "UNKNOWN"):
        watcher = SimpleNamespace(get_state=lambda job_id, mode, word=word: word)
        run.job = SimpleNamespace(job_id="12", watcher=watcher)  # type: ignore[assignment]
        assert run.state() == ("RUNNING" if word in ("RUNNING", "PENDING") else "PENDING")


RUNNER = """
import sys
sys.path[:0] = {path}
from pathlib import Path
from test_local import CHILD, Script, run_here
try:
    run_here([Script(Path({folder!r}), sig, CHILD) for sig in "ab"], jobs=2)
except KeyboardInterrupt:
    sys.exit(130)
"""
# With a child process; the second ignores SIGTERM.
CHILD = """
import os, signal, subprocess, sys, time
if "{folder}".endswith("b"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(os.getpid(), flush=True)
time.sleep(100)
"""


@pytest.mark.slow
def test_an_interruption_ends_all_processes(tmp_path: Path) -> None:
    """A second Ctrl-C kills those that ignored the first, and their children."""
    path = [*sys.path, str(Path(__file__).parent)]
    script = RUNNER.format(path=path, folder=str(tmp_path))
    runner = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    runs = [Script(tmp_path, sig, "") for sig in "ab"]
    wait_for(lambda: all(run.output.exists() and last_line(run).isdigit() for run in runs))
    pids = [int(last_line(run)) for run in runs]  # each leads a session
    runner.send_signal(signal.SIGINT)
    wait_for(lambda: pids[0] not in members(pids[0]))
    time.sleep(0.5)
    assert runner.poll() is None, "it waits for the second"
    runner.send_signal(signal.SIGINT)
    assert runner.wait(8) == 130
    wait_for(lambda: not any(map(members, pids)))
    for run in runs:
        assert run.start(MAIN, {}) and run.process is not None, "nobody holds the lock"
        end_all([run.process])


@pytest.fixture
def dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Types in a command line."""

    def run(*argv: str) -> int:
        monkeypatch.setenv("DORA_DIR", str(tmp_path))
        monkeypatch.setattr("sys.argv", ["grids", *argv])
        return main()

    return run


@pytest.mark.parametrize(
    "argv, expected",
    [
        # Patterns are for the grid's own names, without the overrides.
        (["m*d", "!mpd", "adversarial.mpd.filters=8"], ["msstftd", "msd"]),
        (["-j", "2", "3", "--dry_run", "0"], ["msd", "none"]),
        # the same experiment three times
        (["!none", "adversarial=mpd"], ["mpd"]),
    ],
    ids=str,
)
def test_patterns_and_overrides(
    argv: list[str],
    expected: list[str],
    dry_run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dry_run("tiny", "--dry_run", *argv) == 0
    commands = re.findall(r"^\w{8}: dora run (.*)", capsys.readouterr().out, re.MULTILINE)
    overrides = [arg for arg in argv if "=" in arg]
    for line, adversarial in zip(commands, expected, strict=True):
        words = line.split()
        assert words[:1] == ["solver=tiny"] and f"adversarial={adversarial}" in words
        assert set(overrides) <= set(words) and len(words) == len({*words, *overrides})


@pytest.mark.parametrize(
    "argv, told",
    [
        (["tiny", "optim.epoch=3"], "optim.epoch: no such key. Did you mean optim.epochs?"),
        (["tiny", "-j", "0"], "-j 0: it must be >= 1."),
        (["tiny", "7"], "7: the grid has runs 0 to 3."),
        ([], "Unknown grid ''. Choices: discriminators, encodec_24khz, study, tiny."),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_one_line(
    argv: list[str], told: str, dry_run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        dry_run("--dry_run", *argv)
    out, err = capsys.readouterr()
    assert exit_.value.code == 2 and out == ""
    assert err.startswith(f"error: {told}") and err.count("\n") == 1
