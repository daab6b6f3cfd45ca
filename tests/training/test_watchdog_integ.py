"""A rank that dies, fails or differs, on the real command lines: all end, and are told why.

'bare' is a start without a launcher that would end the others, as by SLURM's srun.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from micro import ROOT, command, write_audio
from ranks import free_port

pytestmark = pytest.mark.integ

STATUS = 3
FAULTS = Path(__file__).parents[1] / "faults"
DORA = [sys.executable, "-m", "dora", "-P", "adversarial_trainer", "run"]
# In seconds: what a start may take on a busy machine; and how soon a run must end after a fault.
START, END = 240, 45
ENDLESS = ["optim.updates_per_epoch=1000000"]


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("data") / "audio", 8)


class Run:
    """A run of two processes under `folder`, started by 'dora' or 'bare'; `fault` is rank 1's."""

    def __init__(
        self, how: str, folder: Path, audio: Path, *overrides: str, fault: str = "", **env: str
    ) -> None:
        self.folder = folder
        argv = command(folder, audio, *overrides)
        env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        if fault:
            paths = [str(FAULTS), os.environ.get("PYTHONPATH", "")]
            env.update(FAULT=fault, FAULT_RANK="1", PYTHONPATH=os.pathsep.join(paths))
        self.outputs, self.processes = [], []
        folder.mkdir(exist_ok=True)
        for rank in range(1 if how == "dora" else 2):
            line = [*DORA, *(["-d", "--ddp_workers", "2"] if how == "dora" else []), "--", *argv]
            if how == "bare":
                address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
                env = {**address, **env, "WORLD_SIZE": "2"}
                env.update(RANK=str(rank), LOCAL_RANK=str(rank))
            self.outputs.append(folder / f"output.{rank}")
            with self.outputs[-1].open("wb") as out:
                self.processes.append(
                    subprocess.Popen(
                        line, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
                    )
                )

    def log(self, rank: int) -> str:
        """What rank `rank` has written to its log in the run's folder."""
        paths = list(self.folder.glob(f"xps/*/solver.log.{rank}"))
        return paths[0].read_text() if paths else ""

    def output(self) -> str:
        """What the launcher, or the bare processes, have shown."""
        return "\n".join(path.read_text() for path in self.outputs)

    def pid(self, rank: int) -> int:
        found = re.search(rf"Rank {rank} of 2, .* pid (\d+)", self.log(rank))
        assert found is not None
        return int(found.group(1))

    def kill(self, rank: int) -> None:
        """SIGKILL to `rank`, in the middle of an epoch."""
        end = time.monotonic() + START
        while not all("Train | Epoch 1 | 5/" in self.log(other) for other in range(2)):
            ended = [p for p in self.processes if p.poll() is not None]
            assert not ended and time.monotonic() < end, self.output()
            time.sleep(0.1)
        os.kill(self.pid(rank), signal.SIGKILL)

    def end(self, limit: float) -> list[int]:
        """Wait for the end; return statuses. No process may be left over."""
        end = time.monotonic() + limit
        statuses = [p.wait(max(0.1, end - time.monotonic())) for p in self.processes]
        # Dora's launcher does not wait for those that it ends.
        while (left := self.left_over()) and time.monotonic() < end:
            time.sleep(0.1)
        assert not left
        return statuses

    def left_over(self) -> list[int]:
        """Processes that have this run's folder in their command line."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.folder).encode() in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue  # it has just ended
        return [pid for pid in found if pid != os.getpid()]


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """Runs to be ended in any case."""
    started: list[Run] = []
    yield started
    for run in started:
        for pid in run.left_over():
            os.kill(pid, signal.SIGKILL)
        for process in run.processes:
            process.wait()


def test_a_rank_is_killed(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    """Without a launcher that ends the others, rank 0 names it; else the launcher does."""
    runs += [Run(how, tmp_path / how, audio, *ENDLESS) for how in ("bare", "dora")]
    for run, statuses in zip(runs, ([STATUS, -signal.SIGKILL], [1]), strict=True):
        run.kill(1)
        assert run.end(END) == statuses
    for text in (runs[0].log(0), runs[0].output()):
        who = f"Rank 1 ({socket.gethostname()}, pid {runs[0].pid(1)})"
        assert f"{who} does not answer: it has died, hangs or is far behind." in text
        assert "Traceback" not in text
    assert "Worker 1 died" in runs[1].output()


def test_a_rank_fails_or_differs(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    failing = Run("dora", tmp_path / "run", audio, *ENDLESS, fault="fail")
    # The port is drawn from the signature.
    other = Run("dora", tmp_path / "other", audio, *ENDLESS, "seed=1", fault="parameters")
    runs += [failing, other]
    assert failing.end(START + END) == other.end(START + END) == [1]
    who = f"Rank 1 ({socket.gethostname()}, pid {failing.pid(1)})"
    told = f"{who} failed: KeyError: 'no such thing'. This process ends."
    for text in (failing.output(), failing.log(0)):
        assert text.count(told) == 1 and "Traceback" not in text
    (line,) = [line for line in other.output().splitlines() if line.startswith("error: ")]
    assert "EncodecModel differs between processes: rank 1 has " in line
    assert "Traceback" not in other.output()


def test_only_rank_zero_writes(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    """And a normal end is quiet."""
    stages = ["evaluate.every=1", "generate.every=1", "checkpoint.keep_last=1"]
    run = Run(
        *("dora", tmp_path / "run", audio, *stages, "logging.tensorboard=true"),
        fault="opened",
        OPENED=str(tmp_path / "opened"),
    )
    runs.append(run)
    assert run.end(2 * START) == [0]
    opened = {Path(line) for line in (tmp_path / "opened").read_text().splitlines()}
    (folder,) = (tmp_path / "run" / "xps").iterdir()
    ours = {path for path in opened if path.is_relative_to(tmp_path / "run")}
    # .argv.json and .hydra are Dora's and Hydra's, which know no ranks; so each looks for room, in
    # a file without a name.
    theirs = {path for path in ours if path.name == ".argv.json" or ".hydra" in path.parts}
    theirs.add(folder)
    assert ours - theirs == {folder / "solver.log.1"}
    for name in ("checkpoint.th", "history.json", "samples", "tensorboard"):
        assert (folder / name).exists()
    for rank in range(2):
        assert "ERROR" not in run.log(rank) and "WARNING" not in run.log(rank)
        assert "Train summary | Epoch 2" in run.log(rank)
