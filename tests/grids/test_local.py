"""Processes, GPUs and signals of the local runner, with scripts in place of training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
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


def run_here(runs: list[Script], jobs: int = 1, gpus: tuple[str, ...] = ()) -> list[str]:
    """Run them; return the reports, in order."""
    told: list[str] = []

    def report(run: LocalRun | None) -> None:
        told.append("tick" if run is None else f"{run.xp.sig} {run.state()} {run.gpu}")

    run_all(runs, MAIN, jobs, gpus, report, update_every=60)
    return told


def test_gpus_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == []
    for given, expected in (("5,3", ["5", "3"]), ("", []), ("-1", []), ("GPU-ab", ["GPU-ab"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert visible_gpus() == expected


def test_each_run_at_a_time_has_a_gpu_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six runs, three at a time, on three GPUs: at no time are two of them on one."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
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
    told = run_here(runs, jobs=3, gpus=("a", "b", "c"))
    assert [run.state() for run in runs] == ["COMPLETED"] * 6
    assert told[:3] == ["0 RUNNING a", "1 RUNNING b", "2 RUNNING c"]
    assert {run.last_lines()[-1] for run in runs} == {"2"}, "a share of the cores"


def test_one_at_a_time(tmp_path: Path) -> None:
    """No GPU is set, and the others run after a failure."""
    script = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'unset'))\n" + FINISH
    runs = [
        Script(tmp_path, "a", script),
        Script(tmp_path, "b", "print('ready'); raise SystemExit('broken')"),
        Script(tmp_path, "c", "import os; os.kill(os.getpid(), 9)"),
        Script(tmp_path, "d", "pass"),
        Script(tmp_path, "e", script),
    ]
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    told = run_here(runs)
    ends = ["COMPLETED", "FAILED", "FAILED", "FAILED", "COMPLETED"]
    assert told == [
        f"{run.xp.sig} {state} None"
        for run, end in zip(runs, ends, strict=True)
        for state in ("RUNNING", end)
    ]
    assert runs[0].last_lines(1) == ["unset"]
    assert runs[1].last_lines(2) == ["ready", "broken"]
    assert runs[1].failure.read_text() == "exit status 1 after 0 epochs\n"
    assert runs[2].failure.read_text() == "SIGKILL after 0 epochs\n"
    assert runs[3].failure.read_text() == "exit status 0 after 0 epochs\n"

    # Another runner sees the same; a second try that works removes the failure.
    again = Script(tmp_path, "b", script)
    assert again.state() == "FAILED" and Script(tmp_path, "e", script).state() == "COMPLETED"
    run_here([again])
    assert again.state() == "COMPLETED" and not again.failure.exists()
    assert again.log.read_text().count("\n$ ") == 1, "logs follow one another"


def test_two_runners_do_not_share_a_folder(tmp_path: Path) -> None:
    """The process of a run holds the lock, not the runner, which may be killed."""
    runner = Script(tmp_path, "a", "import time; time.sleep(60)")
    assert runner.start(MAIN, None, None)
    other = Script(tmp_path, "a", FINISH)
    assert run_here([other]) == ["a RUNNING None"]
    assert other.elsewhere == "another local runner" and not other.is_finished()
    end_all([runner])
    other = Script(tmp_path, "a", FINISH)
    run_here([other])
    assert other.state() == "COMPLETED"


class Job:
    """A SLURM job, as Dora describes it."""

    job_id = "12"

    def __init__(self, state: str) -> None:
        self.watcher = self
        self.word = state

    def get_state(self, job_id: str, mode: str) -> str:
        return self.word

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        return self.word not in ("RUNNING", "PENDING", "UNKNOWN")


@pytest.mark.parametrize("state", ["PENDING", "FAILED"])
def test_jobs_of_slurm_are_left_alone(
    tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    run = Script(tmp_path, "a", FINISH)
    run.job = Job(state)  # type: ignore[assignment]
    run_here([run])
    on_slurm = state == "PENDING"
    assert run.elsewhere == (f"SLURM job 12 ({state})" if on_slurm else None)
    assert run.is_finished() is not on_slurm


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
    wait_for(lambda: all(run.log.exists() and run.last_lines()[-1].isdigit() for run in runs))
    pids = [int(run.last_lines()[-1]) for run in runs]
    runner.send_signal(signal.SIGINT)
    wait_for(lambda: not is_alive(pids[0]))
    time.sleep(0.5)
    assert runner.poll() is None, "it waits for the second"
    runner.send_signal(signal.SIGINT)
    assert runner.wait(8) == 130
    wait_for(lambda: not any(map(is_alive, pids)), seconds=5)
    for run in runs:
        assert not run.failure.exists()
        assert run.start(MAIN, None, None), "nobody holds the lock"
        end_all([run])


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
