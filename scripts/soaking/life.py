"""One life of a run: its processes, what they say, and the end that they come to."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from soaking import hook

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
TICK = 0.002  # seconds


@dataclass(frozen=True)
class Record:
    """An update, as the run's process told of it."""

    pid: int
    rank: int
    update: int
    good: bool
    checksums: str


class Pipe:
    """A named pipe that is read without waiting; it outlives its writers."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def read(self) -> bytes:
        """All that is there."""
        parts = []
        while True:
            try:
                parts.append(os.read(self._descriptor, 1 << 16))
            except BlockingIOError:
                return b"".join(parts)


class Nursery:
    """The process that forks runs (`nursery.py`)."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": _python_path(SCRIPTS)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "soaking.nursery"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        if self._answers.readline() != b"ready\n":
            raise RuntimeError("the nursery has not started")
        os.set_blocking(self._answers.fileno(), False)
        self._rest = b""

    def fork(
        self, argv: Sequence[str], output: Path, environments: list[dict[str, str]]
    ) -> list[int]:
        """Process ids of the ranks."""
        request = {"argv": argv, "output": str(output), "environments": environments}
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()
        pids: list[int] = []
        while len(pids) < len(environments):
            pids += [int(words[1]) for words in self._lines(only=b"pid")]
            time.sleep(TICK)
        return pids

    def ends(self) -> dict[int, int]:
        """Exit statuses of those that have ended since the last call, by process id."""
        return {int(words[1]): int(words[2]) for words in self._lines(only=b"end")}

    def _lines(self, only: bytes) -> list[list[bytes]]:
        """Answers of one kind; the others wait."""
        self._rest += self._answers.read() or b""
        *lines, rest = self._rest.split(b"\n")
        taken = [line.split() for line in lines if line.startswith(only)]
        kept = [line for line in lines if not line.startswith(only)]
        self._rest = b"".join(line + b"\n" for line in kept) + rest
        return taken

    def close(self) -> None:
        """Ends with its stdin."""
        self._requests.close()
        self._process.wait()


class Life:
    """A run from its start to its end.

    Args:
        nursery: that forks it; None for the real command line, from the start of Python on.
    """

    def __init__(
        self,
        argv: Sequence[str],
        bad: dict[int, str],
        processes: int,
        nursery: Nursery | None,
        pipes: tuple[Pipe, Pipe],
    ) -> None:
        self._nursery = nursery
        self._records, self._output = pipes
        self.processes = processes
        self.records: list[Record] = []
        self._partial = b""
        self._said = b""
        self.began = time.monotonic()
        self.statuses: dict[int, int] = {}
        environment = {hook.RECORDS: str(self._records.path), hook.BAD: json.dumps(bad)}
        line = ["-P", "adversarial_trainer", "run"]
        if nursery is not None:
            environments = [environment]
            if processes > 1:
                port = str(20000 + os.getpid() % 20000)
                shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
                shared |= {"MASTER_PORT": port, **environment}
                environments = [
                    {**shared, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(processes)
                ]
            self._process = None
            self.pids = nursery.fork([*line, *argv], self._output.path, environments)
        else:
            line += ["-d", "--ddp_workers", str(processes)] if processes > 1 else []
            path = _python_path(SCRIPTS / "soaking" / "site")
            with open(self._output.path, "wb") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "dora", *line, *argv],
                    cwd=ROOT, env={**os.environ, **environment, "PYTHONPATH": path},
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip
            self.pids = [self._process.pid]

    @property
    def real(self) -> bool:
        """Whether it is by the real command line."""
        return self._process is not None

    @property
    def text(self) -> str:
        """All that it has printed so far."""
        return self._said.decode(errors="replace")

    @property
    def last(self) -> int | None:
        """The last update done in this life."""
        return self.records[-1].update if self.records else None

    @property
    def alive(self) -> bool:
        return len(self.statuses) < len(self.pids)

    @property
    def status(self) -> int:
        """Of the first rank."""
        return self.statuses[self.pids[0]]

    def look(self) -> None:
        """Take note of what has happened."""
        ended = {}  # before the pipes are read: what it said is in them by then
        if self._nursery is not None:
            ended = self._nursery.ends()
        elif self._process is not None and (status := self._process.poll()) is not None:
            ended = {self._process.pid: status}
        self._said += self._output.read()
        *lines, self._partial = (self._partial + self._records.read()).split(b"\n")
        for line in lines:
            pid, rank, update, good, *checksums = line.decode().split()
            record = Record(int(pid), int(rank), int(update), good == "1", " ".join(checksums))
            if record.rank == 0:
                self.records.append(record)
        self.statuses.update(ended)

    def signal(self, number: int, group: bool) -> None:
        """To the main processes, or to all: as `scancel` and an ended terminal do."""
        for pid in self.pids:
            if pid not in self.statuses:
                try:
                    (os.killpg if group else os.kill)(pid, number)
                except ProcessLookupError:  # it has ended; or is not a group's leader yet
                    pass

    def kill(self) -> None:
        """SIGKILL for all its processes at once."""
        for pid in self.members():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def members(self) -> list[int]:
        """All its processes, by their sessions; zombies left out."""
        return [pid for pid, session, _ in _processes() if session in self.pids]

    def workers(self) -> list[int]:
        """Children of the main processes: the loader's; of `dora run -d` the ranks."""
        return [pid for pid, _, parent in _processes() if parent in self.pids]

    def limit_files(self, size: int) -> None:
        """No process of it can make a file longer than `size` bytes; -1: no limit."""
        for pid in self.members():
            try:
                hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
            except ProcessLookupError:
                pass


def _python_path(folder: Path) -> str:
    """PYTHONPATH with `folder` first."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


def _processes() -> Iterator[tuple[int, int, int]]:
    """(pid, session, parent) of each process that lives."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                text = Path(entry.path, "stat").read_text()
            except OSError:  # it has ended
                continue
            match = re.match(r"(\d+) \(.*\) (\S) (\d+) \d+ (\d+) ", text, re.DOTALL)
            if match is not None and match.group(2) not in "ZX":
                pid, state, parent, session = match.groups()
                yield int(pid), int(session), int(parent)
