"""Signals that ask a run to end: it saves its state after the current update."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn

logger = logging.getLogger(__name__)

# Signals that ask a run to save its state and to end. SIGUSR1 and SIGUSR2 are SLURM's warnings,
# whichever its users ask for (--signal); submitit's is SIGUSR2. SIGTERM comes before a preemption,
# and from `scancel`, `docker stop` and the like; SIGINT from Ctrl-C, SIGHUP from a closed terminal.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)


def stop_signals() -> list[signal.Signals]:
    """Return STOP_SIGNALS without those that this process was told to ignore, as by `nohup`."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]


class Interrupted(Exception):
    """The run ends early because of a signal; its state is saved.

    Attributes:
        interruption: whose `leave` ends the process.
    """

    def __init__(self, interruption: Interruption) -> None:
        super().__init__(f"interrupted by {interruption.name}")
        self.interruption = interruption


class Interruption:
    """Context manager in which stop signals are only recorded; a second Ctrl-C ends the process.

    Attributes:
        signum: the first signal that this process got; None until then.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        # Python allows handlers in the main thread only; elsewhere signals keep their usual effect.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in stop_signals()}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    @property
    def name(self) -> str:
        """Name of the signal, such as SIGTERM."""
        if self.signum is None:
            return "a signal to another rank"
        return signal.Signals(self.signum).name

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            logger.warning("%s: the run saves its state after this update, and ends", self.name)
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            logger.warning("Ctrl-C once more ends it at once, without saving")

    def leave(self) -> NoReturn:
        """End the process with the status that its launcher expects.

        In a submitit job, submitit's handler is called, which requeues the job; but after a SIGTERM
        only if SLURM still lists the job as running, so that it was not cancelled and SLURM does
        not requeue it by itself. Otherwise the status is 128 + the signal's number.
        """
        signum = self.signum or signal.SIGTERM
        names = {getattr(h, "__name__", ""): h for h in self._before.values()}
        requeue = names.get("checkpoint_and_try_requeue")  # submitit's
        if requeue is None:
            sys.exit(128 + signum)
        if signum != signal.SIGTERM or _runs_on():
            # It exits by itself on the first rank; SLURM then ends the others.
            requeue(signum, None)
        sys.exit(0)


def _runs_on() -> bool:
    """Return whether SLURM still lists this job as running, as before a preemption."""
    job = os.environ.get("SLURM_JOB_ID", "")
    line = ["squeue", "--noheader", "--jobs", job, "--format", "%T"]
    try:
        result = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        logger.warning("Not requeued: %s", exc)
        return False
    return result.stdout.split() == ["RUNNING"]
