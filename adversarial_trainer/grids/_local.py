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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from dora import Sheep
from dora.main import DecoratedMain
from dora.xp import XP

from adversarial_trainer.registry import format_count
from adversarial_trainer.training.devices import cores
from adversarial_trainer.training.length import is_finished

POLL = 0.2  # seconds between two looks at the processes
UPDATE = 60.0  # seconds between two tables
GRACE = 30.0  # seconds that a run has to save its state when it is asked to end


class LocalRun(Sheep):
    """An experiment, and the process that runs it here. Its states are SLURM's words, as Dora's
    table cuts them to three letters.

    Attributes:
        name: how messages call it; begins with its signature.
        output: file with what all its `dora run`s here have printed.
        process: the one that runs it now.
        failure: how that one failed; empty if it did not.
    """

    def __init__(self, xp: XP) -> None:
        super().__init__(xp)
        self.name = xp.sig
        self.output = xp.folder / "run.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.failure = ""

    def history(self) -> list[dict[str, Any]]:
        """Metrics of the finished epochs, whoever ran them."""
        self.xp.link.load()
        return self.xp.link.history

    def state(self, mode: str = "standard") -> str:
        """COMPLETED, RUNNING (here or by SLURM), FAILED or PENDING."""
        if self.process is not None:
            return "RUNNING"
        if is_finished(self.history(), self.xp.cfg.optim):
            return "COMPLETED"
        if super().state("force") in ("RUNNING", "PENDING"):
            return "RUNNING"
        return "FAILED" if self.failure else "PENDING"

    def command(self, main: DecoratedMain) -> list[str]:
        """Command line of the process."""
        dora = [sys.executable, "-m", "dora", "-P", main.package, "--main_module", main.main_module]
        return [*dora, "run", "--", *self.xp.argv]

    def start(self, main: DecoratedMain, environment: Mapping[str, str]) -> bool:
        """Start the process; return False if another local runner has this experiment.

        Args:
            main: Dora's main function, which `dora run` will find again.
            environment: variables to set.
        """
        command = self.command(main)
        self.xp.folder.mkdir(parents=True, exist_ok=True)
        with open(self.output, "ab") as output:
            try:  # the process inherits this lock, and holds it to its end
                fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            output.write(f"$ {shlex.join(command)}\n".encode())
            output.flush()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                start_new_session=True,  # Ctrl-C is for this runner, which ends what it started
            )
        return True

    def has_ended(self) -> bool:
        """Whether the started process has ended; sets `failure` if it should not have."""
        if self.process is None or (status := self.process.poll()) is None:
            return False
        self.process = None
        if self.state() != "COMPLETED":
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            self.failure = f"{how} after {format_count(len(self.history()), 'epoch')}"
        return True


def run_all(
    runs: Sequence[LocalRun], main: DecoratedMain, jobs: int, show_table: Callable[[], None]
) -> None:
    """Run all of `runs`, each once, `jobs` at a time, with the GPUs dealt out among them.

    Prints what starts and ends, and the table at each end and every `UPDATE` seconds.

    Raises:
        KeyboardInterrupt: all processes have been ended by then.
    """
    waiting, running = list(runs), dict[int, LocalRun]()  # running: by place, of `jobs`
    at_a_time = min(jobs, len(runs))
    environment = {}
    if at_a_time > 1 and "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, cores() // at_a_time))
    gpus = visible_gpus()
    shown = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                place = min(set(range(jobs)) - running.keys())
                if gpus:
                    environment["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
                if run.start(main, environment):
                    running[place] = run
                    where = f" on GPU {gpus[place % len(gpus)]}" if gpus else ""
                    print(f"Started{where}: {run.name}, log in {run.output}", flush=True)
                else:
                    print(f"Skipped, another local runner has it: {run.name}", flush=True)
            time.sleep(POLL)
            ended = {place: run for place, run in running.items() if run.has_ended()}
            for place, run in ended.items():
                del running[place]
                print(f"{'Failed' if run.failure else 'Finished'}: {run.name}")
            if ended or time.monotonic() - shown >= UPDATE:
                print(time.strftime("%H:%M:%S"))
                show_table()
                shown = time.monotonic()
    finally:
        end_all([run.process for run in running.values() if run.process is not None])


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
