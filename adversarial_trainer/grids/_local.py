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
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from dora import Sheep
from dora.main import DecoratedMain
from dora.xp import XP

from adversarial_trainer.training.devices import cores

POLL = 0.2  # seconds between two looks at the processes
GRACE = 10.0  # seconds a run has to end when it is asked to


def visible_gpus() -> list[str]:
    """This machine's GPUs, or those of them that CUDA_VISIBLE_DEVICES names."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(index) for index in range(torch.cuda.device_count())]
    return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]


class LocalRun(Sheep):
    """An experiment, and the process that runs it here. Its states are SLURM's words, as Dora's
    table cuts them to three letters."""

    def __init__(self, xp: XP) -> None:
        super().__init__(xp)
        self.process: subprocess.Popen[bytes] | None = None
        self.gpu: str | None = None
        self.started = 0.0
        self.elsewhere: str | None = None  # who else runs it

    @property
    def log(self) -> Path:
        """Output of all `dora run`s of this experiment by a local runner."""
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
        """Command line of the process."""
        dora = [sys.executable, "-m", "dora", "-P", main.package, "--main_module", main.main_module]
        return [*dora, "run", "--", *self.xp.argv]

    def start(self, main: DecoratedMain, gpu: str | None, threads: int | None) -> bool:
        """Start the process; False if another one runs this experiment (see `elsewhere`).

        Args:
            main: Dora's main function, which `dora run` will find again.
            gpu: for CUDA_VISIBLE_DEVICES; None leaves the variable alone.
            threads: CPU threads; None leaves the number to the run.
        """
        self.elsewhere = self._slurm_job()
        if self.elsewhere:
            return False
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if gpu is not None:
            environ["CUDA_VISIBLE_DEVICES"] = gpu
        if threads is not None:
            environ.setdefault("OMP_NUM_THREADS", str(threads))
        self.xp.folder.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            # The process inherits the lock with its output, and keeps it until it ends, also if
            # this runner is killed.
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.elsewhere = "another local runner"
                return False
            self.failure.unlink(missing_ok=True)
            command = self.command(main)
            log.write(f"$ {shlex.join(command)}\n".encode())
            log.flush()
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
        self.signal(signal.SIGKILL)  # loader processes that it left behind
        self.process = None
        if not self.is_finished():
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            self.failure.write_text(f"{how} after {self.epochs()} epochs\n")
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def last_lines(self, count: int = 10) -> list[str]:
        """The end of the log."""
        return self.log.read_text(errors="replace").splitlines()[-count:]

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
    gpus: Sequence[str],
    report: Callable[[LocalRun | None], None],
    update_every: float,
) -> None:
    """Run all of `runs`, each once, `jobs` at a time, each on the GPU with the fewest of them.

    Args:
        runs: those to run.
        main: Dora's main function.
        jobs: processes at a time.
        gpus: names for CUDA_VISIBLE_DEVICES; empty where runs use the CPU.
        report: called with each run that has started or ended, or was left out, and every
            `update_every` seconds with None.

    Raises:
        KeyboardInterrupt: all processes have been ended by then.
    """
    waiting, running = list(runs), list[LocalRun]()
    at_a_time = min(jobs, len(runs))
    threads = max(1, cores() // at_a_time) if at_a_time > 1 else None
    reported = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                gpu = min(gpus, key=[other.gpu for other in running].count, default=None)
                running.append(run)  # before it starts: an interruption must find it
                if not run.start(main, gpu, threads):
                    running.remove(run)
                report(run)
            time.sleep(POLL)
            for run in [run for run in running if run.poll()]:
                running.remove(run)
                report(run)
                reported = time.monotonic()
            if time.monotonic() - reported >= update_every:
                report(None)
                reported = time.monotonic()
    finally:
        end_all(running)


def end_all(running: Sequence[LocalRun]) -> None:
    """Ask processes to end; by force after `GRACE` seconds, or at a second Ctrl-C. No failure."""
    processes = [run.process for run in running if run.process is not None]
    for run in running:
        run.signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    try:
        while any(process.poll() is None for process in processes):
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL)
    finally:
        for run in running:
            run.signal(signal.SIGKILL)
        for process in processes:
            process.wait()
