"""A rank that dies, hangs, fails or differs, on the real command lines: all end, and are told why.

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
    """A run of `size` processes under `folder`, started by 'dora', 'torchrun' or 'bare'."""

    def __init__(
        self,
        how: str,
        size: int,
        folder: Path,
        audio: Path,
        *overrides: str,
        fault: str = "",
        rank: int = 1,
        **env: str,
    ) -> None:
        self.folder = folder
        self.size = size
        argv = command(folder, audio, *overrides)
        env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        if fault or "START_LIMIT" in env:
            env["PYTHONPATH"] = str(FAULTS)
        if fault:
            env.update(FAULT=fault, FAULT_RANK=str(rank))
        if how == "dora":
            lines = [[*DORA, "-d", "--ddp_workers", str(size), "--", *argv]]
        elif how == "torchrun":
            torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(size)]
            lines = [[*torchrun, "--master-port", str(free_port()), *DORA, "--", *argv]]
        else:
            lines = [[*DORA, "--", *argv]] * size
            env.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), WORLD_SIZE=str(size))
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
        found = re.search(rf"Rank {rank} of {self.size} .* pid (\d+)", self.log(rank))
        assert found is not None
        return int(found.group(1))

    def reach(self, rank: int, text: str, limit: float = START) -> None:
        """Wait for a text in the log of `rank`."""
        end = time.monotonic() + limit
        while text not in self.log(rank):
            ended = [p for p in self.processes if p.poll() is not None]
            assert not ended and time.monotonic() < end, self.all_output()
            time.sleep(0.1)

    def send(self, rank: int, number: signal.Signals) -> None:
        """A signal to `rank`, in the middle of an epoch."""
        for other in range(self.size):
            self.reach(other, "Train | Epoch 1 | 5/")
        time.sleep(3)  # the others know what it did one or two seconds ago
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


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


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
    run = Run("bare", 3, tmp_path / "run", audio, *ENDLESS, "dataset.batch_size=3")
    runs.append(run)
    run.send(1, signal.SIGKILL)
    assert run.end(END) == [STATUS, -signal.SIGKILL, STATUS]
    for rank in (0, 2):
        for text in (run.log(rank), run.output(rank)):
            assert f"{who(run, 1)} has died, last in 'train, epoch 1, update " in text
            assert "/solver.log.1\n" in text
            assert "Traceback" not in text
    assert run.log(1)


def test_rank_zero_is_killed(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    """It holds the store through which the ranks know of one another."""
    run = Run("bare", 2, tmp_path / "run", audio, *ENDLESS)
    runs.append(run)
    run.send(0, signal.SIGKILL)
    assert run.end(END) == [-signal.SIGKILL, STATUS]
    assert f"{who(run, 0)} has died" in run.log(1) and "Traceback" not in run.log(1)


def test_a_launcher_ends_the_others_at_once(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    """It is then the launcher that names the rank."""
    run = Run("dora", 2, tmp_path / "run", audio, *ENDLESS)
    runs.append(run)
    run.send(1, signal.SIGKILL)
    assert run.end(END) == [1]
    assert "Worker 1 died" in run.output()


@pytest.mark.parametrize("how, rank", [("dora", 1), ("bare", 0)])
def test_a_rank_is_stopped(
    tmp_path: Path, audio: Path, runs: list[Run], how: str, rank: int
) -> None:
    """As by a machine that is out of memory. Those that wait for it end it as well."""
    run = Run(how, 2, tmp_path / "run", audio, *ENDLESS)
    runs.append(run)
    run.send(rank, signal.SIGSTOP)
    statuses = run.end(END)
    other = 1 - rank
    assert f"{who(run, rank)} has given no sign of life for 2" in run.log(other)
    assert "s: it is stopped, last in 'train, epoch 1, update " in run.log(other)
    if how == "dora":
        assert statuses == [1] and run.log(0).splitlines()[-1] in run.output()
    else:
        assert statuses == [-signal.SIGKILL, STATUS]


@pytest.mark.parametrize("how", ["dora", "torchrun"])
def test_a_rank_hangs(tmp_path: Path, audio: Path, runs: list[Run], how: str) -> None:
    run = Run(how, 2, tmp_path / "run", audio, *ENDLESS, "hang_timeout=10", fault="hang")
    runs.append(run)
    run.reach(0, "Train | Epoch 1 | 2/")
    assert run.end(END) == [1]
    told = f"{who(run, 1)} has shown no progress for 1"
    for text in (run.output(), run.log(0), run.log(1)):
        line = next(line for line in text.splitlines() if told in line)
        assert "in 'train, epoch 1, update 3'" in line and "rank 0 waits for it" in line
        assert "hang_timeout=10" in line
    # And where it hangs.
    assert "in sleep_for_ever" in run.log(1) and "in train_step" in run.log(1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_fails(tmp_path: Path, audio: Path, runs: list[Run], rank: int) -> None:
    run = Run("dora", 2, tmp_path / "run", audio, *ENDLESS, fault="fail", rank=rank)
    runs.append(run)
    run.reach(rank, "Train | Epoch 1 | 2/")
    assert run.end(END) == [1]
    told = f"{who(run, rank)} failed in 'train, epoch 1, update 3': KeyError: 'no such thing'"
    for text in (run.output(), run.log(0), run.log(1)):
        assert text.count(told) == 1
    assert "Traceback (most recent call last)" in run.log(rank)
    assert "Traceback" not in run.log(1 - rank)


def test_an_error_of_one_rank_alone(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    """What would be one line, if all had it: a folder that one machine lacks."""
    run = Run("bare", 2, tmp_path / "run", audio, *ENDLESS, fault="user_error")
    runs.append(run)
    assert run.end(START + END) == [STATUS, 2]
    assert f"{who(run, 1)} failed" in run.output(0)
    assert "FileNotFoundError: /data: no such folder on this machine" in run.output(0)
    assert "Traceback" not in run.output(0)


def test_a_rank_with_other_parameters(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    run = Run("dora", 2, tmp_path / "run", audio, *ENDLESS, fault="parameters")
    runs.append(run)
    assert run.end(START + END) == [1]
    (line,) = [line for line in run.output().splitlines() if line.startswith("error: ")]
    assert "EncodecModel differs between processes: rank 1 has " in line
    assert "Traceback" not in run.output()
    assert run.log(0) and run.log(1)


def test_a_rank_that_never_comes(tmp_path: Path, audio: Path, runs: list[Run]) -> None:
    run = Run("bare", 2, tmp_path / "run", audio, fault="absent", START_LIMIT="6")
    runs.append(run)
    assert run.processes[0].wait(START) == STATUS
    assert "Of 2 ranks, 1 did not come within 6 s." in run.output(0)
    assert "Of 2 ranks, 1 did not come within 6 s." in run.log(0)


@pytest.mark.parametrize("how", ["dora", "torchrun"])
def test_only_rank_zero_writes(tmp_path: Path, audio: Path, runs: list[Run], how: str) -> None:
    """And in the end, nobody is taken for dead."""
    stages = ["evaluate.every=1", "generate.every=1", "checkpoint.keep_last=1"]
    run = Run(
        *(how, 2, tmp_path / "run", audio, *stages, "logging.tensorboard=true"),
        fault="opened",
        OPENED=str(tmp_path / "opened"),
    )
    runs.append(run)
    assert run.end(2 * START) == [0]
    opened = {Path(line) for line in (tmp_path / "opened").read_text().splitlines()}
    (folder,) = (tmp_path / "run" / "xps").iterdir()
    ours = {path for path in opened if path.is_relative_to(tmp_path / "run")}
    print(sorted(map(str, opened)))
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
