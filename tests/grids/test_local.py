"""Processes, GPUs and signals of the local runner, with scripts in place of training."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dora.conf import DoraConfig
from dora.main import DecoratedMain
from dora.xp import XP
from omegaconf import OmegaConf

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
    run_all(runs, MAIN, jobs, lambda: None, update_every=60)


def last_line(run: Script) -> str:
    """The last line that it has printed."""
    return run.output.read_text().splitlines()[-1]


def test_gpus_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == []
    for given, expected in (("5,3", ["5", "3"]), ("", []), ("-1", []), ("GPU-ab", ["GPU-ab"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert visible_gpus() == expected


def test_each_run_at_a_time_has_a_gpu_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six runs, three at a time, on three GPUs: at no time are two of them on one."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b,c")
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
        for gpu, run in zip("abc", runs, strict=False)
    ]
    assert {last_line(run) for run in runs} == {"2"}, "a share of the cores"


def test_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No GPU and no share of the threads is set, and a failure stops nothing."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
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
    failures = [run.failure.read_text() for run in runs[1:4]]
    assert failures == [
        f"{how} after 0 epochs\n" for how in ("exit status 1", "SIGKILL", "exit status 0")
    ]

    # Another runner sees the same; a second try that works removes the failure.
    again = Script(tmp_path, "b", script)
    assert again.state() == "FAILED" and Script(tmp_path, "e", script).state() == "COMPLETED"
    run_here([again])
    assert again.state() == "COMPLETED" and not again.failure.exists()
    assert again.output.read_text().count("$ ") == 2, "logs follow one another"


def test_two_runners_do_not_share_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process has the lock, not the runner, which may be killed."""
    first = Script(tmp_path, "a", "import time; time.sleep(60)")
    assert first.start(MAIN, None, None) and first.process is not None
    second = Script(tmp_path, "a", FINISH)
    run_here([second])
    assert capsys.readouterr().out == "Skipped, another local runner has it: a\n"
    end_all([first.process])
    run_here([second])
    assert second.state() == "COMPLETED"


@pytest.mark.parametrize("word", ["RUNNING", "PENDING", "COMPLETED", "FAILED", "UNKNOWN"])
def test_states_of_a_run_that_slurm_had(tmp_path: Path, word: str) -> None:
    """What SLURM runs is left to it."""
    run = Script(tmp_path, "a", FINISH)
    watcher = SimpleNamespace(get_state=lambda job_id, mode: word)
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
import signal, subprocess, sys, time
if "{folder}".endswith("b"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(grandchild.pid, flush=True)
time.sleep(100)
"""


@pytest.mark.slow
def test_an_interruption_ends_all_processes(tmp_path: Path) -> None:
    """A second Ctrl-C kills those that ignored the first, and their children; none counts as
    failed."""
    path = [*sys.path, str(Path(__file__).parent)]
    script = RUNNER.format(path=path, folder=str(tmp_path))
    runner = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    runs = [Script(tmp_path, sig, "") for sig in "ab"]
    wait_for(lambda: all(run.output.exists() and last_line(run).isdigit() for run in runs))
    pids = [int(last_line(run)) for run in runs]
    runner.send_signal(signal.SIGINT)
    wait_for(lambda: not is_alive(pids[0]))
    time.sleep(0.5)
    assert runner.poll() is None, "it waits for the second"
    runner.send_signal(signal.SIGINT)
    assert runner.wait(8) == 130
    wait_for(lambda: not any(map(is_alive, pids)), seconds=5)
    for run in runs:
        assert not run.failure.exists()
        assert run.start(MAIN, None, None) and run.process is not None, "nobody holds the lock"
        end_all([run.process])


def wait_for(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
