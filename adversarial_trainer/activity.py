"""What this process is doing, for those who watch over a run of several (see `watch`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Activity:
    """The state of one process, written by its main thread and read by its watching thread.

    Attributes:
        collectives: begun so far; ranks that differ here wait for the one that is behind.
        sent: bytes handed to collectives so far.
        doing: in words.
        moved: when the process last showed progress, by `time.monotonic`, in seconds.
        patience: seconds without progress that are no reason to worry, on top of the usual.
    """

    collectives: int = 0
    sent: int = 0
    doing: str = "starting"
    moved: float = field(default_factory=time.monotonic)
    patience: float = 0.0


ACTIVITY = Activity()


def progress(doing: str | None = None) -> None:
    """A sign of life from the main thread, and what it turns to. Cheap: call it in loops."""
    if doing is not None:
        ACTIVITY.doing = doing
    ACTIVITY.moved = time.monotonic()


def collective(size: int) -> None:
    """A collective on `size` bytes begins."""
    ACTIVITY.collectives += 1
    ACTIVITY.sent += size
    ACTIVITY.moved = time.monotonic()


@contextmanager
def patience(seconds: float, doing: str) -> Iterator[None]:
    """Something that may take long without a sign of progress, while other ranks wait."""
    before = ACTIVITY.doing, ACTIVITY.patience
    ACTIVITY.patience = seconds
    progress(doing)
    try:
        yield
    finally:
        ACTIVITY.doing, ACTIVITY.patience = before
        progress()
