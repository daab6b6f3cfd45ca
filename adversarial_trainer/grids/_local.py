"""The experiments of a grid on this machine, each a `dora run` of its own, some at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from dora import Sheep
from dora.main import DecoratedMain
from dora.xp import XP

from adversarial_trainer.training.devices import cores

POLL = 0.2  # seconds between two looks at the processes
GRACE = 10.0  # seconds a run has to end when it is asked to


class Devices:
    """Shares GPUs out: a run gets the one with the fewest runs; among equals, the longest idle.

    Args:
        names: as in CUDA_VISIBLE_DEVICES; none where runs use the CPU.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.load = dict.fromkeys(names, 0)

    def take(self) -> str | None:
        """The GPU for another run; None where there is none."""
        if not self.load:
            return None
        name = min(self.load, key=self.load.__getitem__)  # the first of those with the least
        self.load[name] = self.load.pop(name) + 1
        return name

    def give_back(self, name: str | None) -> None:
        """A run on `name` has ended."""
        if name is not None:
            self.load[name] -= 1


def visible_gpus(environ: Mapping[str, str], count: int) -> list[str]:
    """Those of the `count` GPUs of this machine that CUDA_VISIBLE_DEVICES leaves."""
    given = environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(index) for index in range(count)]
    names = [name.strip() for name in given.split(",")]
    return [name for name in names if name and name != "-1"]


def threads_for(jobs: int) -> int | None:
    """CPU threads for each of `jobs` runs at a time; None: as many as a run takes of itself."""
    if jobs <= 1:
        return None
    return max(1, cores() // jobs)


class LocalRun(Sheep):
    """An experiment, and the process that runs it here. Its states are SLURM's words, as Dora's
    table cuts them to three letters."""

    def __init__(self, xp: XP) -> None:
        super().__init__(xp)
        self.process: subprocess.Popen[bytes] | None = None
        self.gpu: str | None = None
        self.started = 0.0
        self.elsewhere: str | None = None  # who else runs it
        self._log_start = 0

    @property
    def log(self) -> Path:
        """What the `dora run`s of this runner printed, one after another."""
        return self.xp.folder / "run.log"

    @property
    def failure(self) -> Path:
        """A file that says how the last of them failed; there is none if it did not."""
        return self.xp.folder / "run.failed"

    def epochs(self) -> int:
        """Finished epochs."""
        self.xp.link.load()
        return len(self.xp.link.history)

    def is_finished(self) -> bool:
        """Whether it has all its epochs, whoever ran them."""
        return self.epochs() >= self.xp.cfg.optim.epochs

    def state(self, mode: str = "standard") -> str:
        """COMPLETED, RUNNING, FAILED or PENDING."""
        if self.process is not None or self.elsewhere:
            return "RUNNING"
        if self.is_finished():
            return "COMPLETED"
        return "FAILED" if self.failure.exists() else "PENDING"

    def is_done(self, mode: str = "standard") -> bool:
        return self.state() in ("COMPLETED", "FAILED")

    def command(self, main: DecoratedMain) -> list[str]:
        """The command line that runs it."""
        dora = [sys.executable, "-m", "dora", "-P", main.package, "--main_module", main.main_module]
        return [*dora, "run", "--", *self.xp.argv]

    def start(self, main: DecoratedMain, gpu: str | None, threads: int | None) -> bool:
        """Start the process; False if another one runs this experiment (see `elsewhere`)."""
        if (job := self._slurm_job()) is not None:
            self.elsewhere = job
            return False
        self.xp.folder.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            # The process inherits the lock with its output, and keeps it until it ends, also if
            # this runner is killed.
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.elsewhere = "another local runner"
                return False
            command = self.command(main)
            log.write(f"$ {shlex.join(command)}\n".encode())
            log.flush()
            self._log_start = log.tell()
            self.failure.unlink(missing_ok=True)
            environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
            if gpu is not None:
                environ["CUDA_VISIBLE_DEVICES"] = gpu
            if threads is not None:
                environ.setdefault("OMP_NUM_THREADS", str(threads))
            # In a session of its own: Ctrl-C is for this runner, which ends what it started.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,
            )
        self.gpu = gpu
        self.started = time.monotonic()
        return True

    def poll(self) -> bool:
        """Whether the process has ended since it was started; notes a failure."""
        if self.process is None or (status := self.process.poll()) is None:
            return False
        self._signal(signal.SIGKILL)  # loader processes that it left behind
        self.process = None
        if not self.is_finished():
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            self.failure.write_text(f"{how} after {self.epochs()} epochs\n")
        return True

    def interrupt(self) -> None:
        """Ask the process to end."""
        self._signal(signal.SIGTERM)

    def kill(self, timeout: float) -> None:
        """End the process by force if it has not ended in `timeout` seconds. No failure."""
        if self.process is None:
            return
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def last_lines(self, count: int = 10) -> list[str]:
        """The end of what the last process printed."""
        with open(self.log, "rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        return lines[-count:]

    def _signal(self, number: signal.Signals) -> None:
        """To the process and all it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def _slurm_job(self) -> str | None:
        """The job that SLURM has for this experiment now."""
        if self.job is None or shutil.which("sacct") is None:
            return None
        state = super().state("force")
        if super().is_done() or state == "UNKNOWN":
            return None
        return f"SLURM job {self.current_job_id} ({state})"


def run_all(
    runs: Sequence[LocalRun],
    main: DecoratedMain,
    jobs: int,
    devices: Devices,
    report: Callable[[LocalRun | None], None],
    update_every: float,
) -> None:
    """Run all of `runs`, each once, `jobs` at a time.

    Args:
        runs: those to run.
        main: Dora's main function, which `dora run` will find again.
        jobs: processes at a time.
        devices: GPUs to share out.
        report: called with each run that has started or ended, or was left out, and every
            `update_every` seconds with None.
    Raises:
        KeyboardInterrupt: all processes have been ended by then.
    """
    waiting, running = list(runs), list[LocalRun]()
    reported = time.monotonic()
    threads = threads_for(min(jobs, len(runs)))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run, gpu = waiting.pop(0), devices.take()
                running.append(run)  # before it starts: an interruption must find it
                if not run.start(main, gpu, threads):
                    running.remove(run)
                    devices.give_back(gpu)
                report(run)
            time.sleep(POLL)
            for run in [run for run in running if run.poll()]:
                running.remove(run)
                devices.give_back(run.gpu)
                report(run)
                reported = time.monotonic()
            if time.monotonic() - reported >= update_every:
                report(None)
                reported = time.monotonic()
    finally:
        for run in running:
            run.interrupt()
        deadline = time.monotonic() + GRACE
        try:
            for run in running:
                run.kill(max(0.0, deadline - time.monotonic()))
        finally:  # also if somebody is impatient
            for run in running:
                run.kill(0.0)
