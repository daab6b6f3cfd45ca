"""`dora run -d` hands signals on to its workers.

Dora's own parent process dies of them at once, and leaves the workers behind.
"""

from __future__ import annotations

import signal
import subprocess
from types import FrameType
from typing import Any

from dora import executor

from adversarial_trainer.signals import STOP_SIGNALS


class ChildrenManager(executor.ChildrenManager):
    """Dora's, which waits for the workers; they know what to do with a signal."""

    signum: int | None = None

    def __enter__(self) -> ChildrenManager:
        self._before = {number: signal.signal(number, self._forward) for number in STOP_SIGNALS}
        return super().__enter__()

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.signum is not None:
            self.failed = 128 + self.signum  # type: ignore[assignment]  # Dora's exit status

    def _forward(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        child: subprocess.Popen
        for child in self.children:
            child.send_signal(signum)  # nothing, if it has ended


def install() -> None:
    """Let Dora use it."""
    executor.ChildrenManager = ChildrenManager  # type: ignore[misc]
