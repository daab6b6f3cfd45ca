"""Lock of a run's folder: one training at a time writes to it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of an existing folder; the system takes it back when the process ends.

    It is the process's own: loader processes that it forks, and that may live longer, have none of
    it. On file systems without locks this does nothing.

    Raises:
        ValueError: another process holds it, which the message names.
    """
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(f"{folder} is being trained by {file.read()}.") from None
        except OSError:
            yield
            return
        file.truncate(0)
        file.write(f"{socket.gethostname()}, pid {os.getpid()}")
        file.flush()
        yield


def check_not_locked(folder: Path) -> None:
    """ValueError if another process holds the lock of a folder, which need not exist."""
    if (folder / ".lock").exists():
        with locked(folder):
            pass
