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
DORA = ["-m", "dora", "-P", "adversarial_trainer", "run"]
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
        if how == "dora":
            lines = [[*DORA, "-d", "--ddp_workers", "2", "--", *argv]]
        else:
            lines = [[*DORA, "--", *argv]] * 2
            env.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), WORLD_SIZE="2")
        self.outputs = [folder / f"output.{n}" for n in range(len(lines))]
        self.processes = []
        folder.mkdir(exist_ok=True)
        for n, (line, output) in enumerate(zip(lines, self.outputs, strict=True)):
            if how == "bare":
                env.update(RANK=str(n), LOCAL_RANK=str(n))
            with output.open("wb") as file:
                process = subprocess.Popen(
                    [sys.executable, *line],
                    cwd=ROOT,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            self.processes.append(process)

    def log(self, rank: int) -> str:
        """What rank `rank` has written to its log in the run's folder."""
        paths = list(self.folder.glob(f"xps/*/solver.log.{rank}"))
        return paths[0].read_text() if paths else ""

    def output(self, n: int = 0) -> str:
        """What the launcher has shown, or one bare process."""
        return self.outputs[n].read_text()

    def pid(self, rank: int) -> int:
        found = re.search(rf"Rank {rank} of 2, .* pid (\d+)", self.log(rank))
        assert found is not None
        return int(found.group(1))

    def reach(self, rank: int, text: str) -> None:
        """Wait for a text in the log of `rank`."""
        end = time.monotonic() + START
        while text not in self.log(rank):
            ended = [p for p in self.processes if p.poll() is not None]
            assert not ended and time.monotonic() < end, self.all_output()
            time.sleep(0.1)

    def send(self, rank: int, number: signal.Signals) -> None:
        """A signal to `rank`, in the middle of an epoch."""
        for other in range(2):
            self.reach(other, "Train | Epoch 1 | 5/")
        os.kill(self.pid(rank), number)

    def end(self, limit: float) -> list[int]:
        """Wait for the end. Statuses; AssertionError where it is not within `limit` seconds, or
        where a process is left over."""
        end = time.monotonic() + limit
        try:
            statuses = [p.wait(max(0.1, end - time.monotonic())) for p in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It goes on after {limit} s.\n{self.all_output()}") from None
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

    def all_output(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.outputs)


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


def who(run: Run, rank: int) -> str:
    return f"Rank {rank} ({socket.gethostname()}, pid {run.pid(rank)})"


def test_a_rank_is_killed(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    """Without a launcher that ends the others; rank 0 holds the store in which they would look."""
    run = Run("bare", tmp_path / "run", audio, *ENDLESS)
    runs.append(run)
    run.send(1, signal.SIGKILL)
    assert run.end(END) == [STATUS, -signal.SIGKILL]
    for text in (run.log(0), run.output(0)):
        assert f"{who(run, 1)} does not answer: it has died, hangs or is far behind." in text
        assert "Traceback" not in text


def test_a_launcher_ends_the_others_at_once(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    """It is then the launcher that names the rank."""
    run = Run("dora", tmp_path / "run", audio, *ENDLESS)
    runs.append(run)
    run.send(1, signal.SIGKILL)
    assert run.end(END) == [1]
    assert "Worker 1 died" in run.output()


def test_a_rank_fails(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    run = Run("dora", tmp_path / "run", audio, *ENDLESS, fault="fail")
    runs.append(run)
    run.reach(1, "Train | Epoch 1 | 2/")
    assert run.end(END) == [1]
    told = f"{who(run, 1)} failed: KeyError: 'no such thing'. This process ends."
    for text in (run.output(), run.log(0)):
        assert text.count(told) == 1 and "Traceback" not in text


def test_a_rank_with_other_parameters(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    run = Run("dora", tmp_path / "run", audio, *ENDLESS, fault="parameters")
    runs.append(run)
    assert run.end(START + END) == [1]
    (line,) = [line for line in run.output().splitlines() if line.startswith("error: ")]
    assert "EncodecModel differs between processes: rank 1 has " in line
    assert "Traceback" not in run.output()


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
