"""What a run does when a signal asks it to end."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn

from adversarial_trainer.signals import STOP_SIGNALS

logger = logging.getLogger(__name__)


class Interrupted(Exception):
    """The run ends early, as a signal has asked for; its state is saved.

    Attributes:
        interruption: to be left with `leave`.
    """

    def __init__(self, interruption: Interruption) -> None:
        super().__init__(f"interrupted by {interruption.name}")
        self.interruption = interruption


class Interruption:
    """Inside this context a signal is taken note of, nothing more, and the second one too.

    Attributes:
        signum: the first signal that came; None until then. Where it came to another rank alone,
            that is for the solver to find out.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        # Elsewhere, as in a notebook's thread, Python does not let us; there signals do what they
        # usually do.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @property
    def name(self) -> str:
        """SIGTERM, for instance."""
        return "a signal to another rank" if self.signum is None else _name(self.signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            logger.warning("%s: the run saves its state after this update, and ends", self.name)

    def leave(self) -> NoReturn:
        """End the process in the way that whoever started it understands.

        In a job of submitit its own handler is called, which queues the job again; but not where
        SIGTERM means that the job was cancelled or that SLURM queues it again by itself. Elsewhere
        the status is 128 and the signal's number, as of a process that it has ended.
        """
        signum = signal.SIGTERM if self.signum is None else self.signum
        requeue = self._requeue()
        if requeue is None:
            sys.exit(128 + signum)
        if signum != signal.SIGTERM or _runs_on():
            # Leaves by itself on the first rank. The others wait for their end: SLURM comes.
            requeue(signum, None)
        sys.exit(0)

    def _requeue(self) -> Any:
        """Submitit's handler, where there is one."""
        for number in STOP_SIGNALS:
            handler = self._before.get(number)
            if getattr(handler, "__name__", "") == "checkpoint_and_try_requeue":
                return handler
        return None


def _name(signum: int) -> str:
    return signal.Signals(signum).name


def _runs_on() -> bool:
    """Whether SLURM still takes this job for a running one: it is asked to end, as before a
    preemption, but nobody has ended it."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or shutil.which("squeue") is None:
        return False
    line = ["squeue", "--noheader", "--jobs", job, "--format", "%T"]
    try:
        result = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        logger.warning("Not queued again: %s", exc)
        return False
    return result.stdout.split() == ["RUNNING"]
