"""Which process a rank is, and what became of it, where it runs on this machine."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """A process of a machine.

    Attributes:
        host: name of the machine.
        pid: its number there.
        namespace: of its numbers: containers of one machine may have numbers of their own.
        started: when, in clock ticks since the machine started; tells it from one that was given
            the same number later. 0 where there is no /proc.
    """

    host: str
    pid: int
    namespace: int
    started: int

    @classmethod
    def own(cls) -> Process:
        """The one that calls."""
        pid = os.getpid()
        stat = _stat(pid)
        return cls(socket.gethostname(), pid, _namespace(), stat[1] if stat else 0)

    def __str__(self) -> str:
        return f"{self.host}, pid {self.pid}"

    def state(self) -> str:
        """'gone', 'stopped' or 'running'; 'unknown' on another machine and without /proc."""
        if (self.host, self.namespace) != (socket.gethostname(), _namespace()) or not self.started:
            return "unknown"
        stat = _stat(self.pid)
        if stat is None or stat[1] != self.started or stat[0] in "ZX":
            return "gone"
        return "stopped" if stat[0] in "Tt" else "running"

    def kill(self) -> None:
        """End it, also where it is stopped or stuck. On another machine: nothing."""
        if self.state() in ("stopped", "running"):
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was faster


def _stat(pid: int) -> tuple[str, int] | None:
    """State and time of start of a process; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The name before it, in brackets, may hold anything.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[19])


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
