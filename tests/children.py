"""A function run in a forked process, which may die or have limits; and what processes are left."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_child(
    worker: Callable[..., Any], *args: Any, seconds: int = 30, memory: int | None = None
) -> Any:
    """Return the result of `worker(*args)`, or `(name, text)` of the exception that it raises.

    Args:
        seconds: limit after which it is killed.
        memory: bytes that it may allocate in addition.

    Raises:
        AssertionError: it was killed, or crashed.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(seconds)
            if memory is not None:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                limit = pages * resource.getpagesize() + memory
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            try:
                result = worker(*args)
            except BaseException as exc:
                result = (type(exc).__name__, str(exc))
            with open(writing, "wb") as pipe:
                pickle.dump(result, pipe)
        finally:
            os._exit(0)  # nothing of pytest's runs here
    os.close(writing)
    with open(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(pid, 0)
    assert content, f"{worker.__name__}{args} crashed, or took more than {seconds} s"
    return pickle.loads(content)


def members(session: int) -> list[int]:
    """Return the processes of a session that have not ended, by /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Return when `condition()` holds; AssertionError if it does not within a time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
