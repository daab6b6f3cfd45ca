"""The experiments of a grid on this machine, each a `dora run` of its own, some at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from dora import Sheep
from dora.main import DecoratedMain
from dora.xp import XP

from adversarial_trainer.training.devices import cores

POLL = 0.2  # seconds between two looks at the processes
GRACE = 30.0  # seconds that a run has to save its state when it is asked to end


class LocalRun(Sheep):
    """An experiment, and the process that runs it here. Its states are SLURM's words, as Dora's
    table cuts them to three letters.

    Attributes:
        name: how messages call it; begins with its signature.
        output: file with what all its `dora run`s here have printed.
        failure: file that says how the last of them failed; there is none if it did not.
        process: the one that runs it now.
        gpu: the GPU of that process, as CUDA_VISIBLE_DEVICES has it.
    """

    def __init__(self, xp: XP) -> None:
        super().__init__(xp)
        self.name = xp.sig
        self.output = xp.folder / "run.log"
        self.failure = xp.folder / "run.failed"
        self.process: subprocess.Popen[bytes] | None = None
        self.gpu: str | None = None

    def epochs(self) -> int:
        """Finished epochs, whoever ran them."""
        self.xp.link.load()
        return len(self.xp.link.history)

    def state(self, mode: str = "standard") -> str:
        """COMPLETED, RUNNING (here or by SLURM), FAILED or PENDING."""
        if self.process is not None:
            return "RUNNING"
        if self.epochs() >= self.xp.cfg.optim.epochs:
            return "COMPLETED"
        if super().state("force") in ("RUNNING", "PENDING"):
            return "RUNNING"
        return "FAILED" if self.failure.exists() else "PENDING"

    def command(self, main: DecoratedMain) -> list[str]:
        """Command line of the process."""
        dora = [sys.executable, "-m", "dora", "-P", main.package, "--main_module", main.main_module]
        return [*dora, "run", "--", *self.xp.argv]

    def start(self, main: DecoratedMain, gpu: str | None, threads: int | None) -> bool:
        """Start the process; returns False if another local runner has this experiment.

        Args:
            main: Dora's main function, which `dora run` will find again.
            gpu: for CUDA_VISIBLE_DEVICES; None leaves the variable alone.
            threads: CPU threads, where OMP_NUM_THREADS is not set; None leaves them to the run.
        """
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if gpu is not None:
            environ["CUDA_VISIBLE_DEVICES"] = gpu
        if threads is not None:
            environ.setdefault("OMP_NUM_THREADS", str(threads))
        command = self.command(main)
        self.xp.folder.mkdir(parents=True, exist_ok=True)
        with open(self.output, "ab") as output:
            try:  # the process inherits this lock, and holds it to its end
                fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.failure.unlink(missing_ok=True)
            output.write(f"$ {shlex.join(command)}\n".encode())
            output.flush()
            self.gpu = gpu
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,  # Ctrl-C is for this runner, which ends what it started
            )
        return True

    def has_ended(self) -> bool:
        """Whether the started process has ended; writes `failure` if it should not have."""
        if self.process is None or (status := self.process.poll()) is None:
            return False
        self.process = None
        if self.state() != "COMPLETED":
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            self.failure.write_text(f"{how} after {self.epochs()} epochs\n")
        return True


def run_all(
    runs: Sequence[LocalRun],
    main: DecoratedMain,
    jobs: int,
    show_table: Callable[[], None],
    update_every: float,
) -> None:
    """Run all of `runs`, each once, `jobs` at a time, each on the GPU with the fewest of them.

    Prints what starts and ends, and the table at each end and every `update_every` seconds.

    Raises:
        KeyboardInterrupt: all processes have been ended by then.
    """
    waiting, running = list(runs), list[LocalRun]()
    at_a_time = min(jobs, len(runs))
    threads = max(1, cores() // at_a_time) if at_a_time > 1 else None
    gpus = visible_gpus()
    shown = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                gpu = min(gpus, key=[other.gpu for other in running].count, default=None)
                if run.start(main, gpu, threads):
                    running.append(run)
                    where = "" if gpu is None else f" on GPU {gpu}"
                    print(f"Started{where}: {run.name}, log in {run.output}", flush=True)
                else:
                    print(f"Skipped, another local runner has it: {run.name}", flush=True)
            time.sleep(POLL)
            ended = [run for run in running if run.has_ended()]
            for run in ended:
                running.remove(run)
                print(f"{'Failed' if run.failure.exists() else 'Finished'}: {run.name}")
            if ended or time.monotonic() - shown >= update_every:
                print(time.strftime("%H:%M:%S"))
                show_table()
                shown = time.monotonic()
    finally:
        end_all([run.process for run in running if run.process is not None])


def end_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask processes to end; by force after `GRACE` seconds, or at a second Ctrl-C."""
    try:
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + GRACE
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what it started
            process.wait()


def visible_gpus() -> list[str]:
    """This machine's GPUs, or those of them that CUDA_VISIBLE_DEVICES names."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(index) for index in range(torch.cuda.device_count())]
    return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
