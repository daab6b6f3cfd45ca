"""`python -m adversarial_trainer.grids NAME`: a grid on this machine, without SLURM.

The same experiments as those of `dora grid NAME`, in the same folders.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from typing import Any

import torch
from dora._utils import get_main
from dora.conf import SlurmConfig
from dora.explore import Explorer, Herd, Launcher
from dora.grid import RunGridArgs, _filter_grid_sheeps, monitor
from dora.shep import Sheep
from dora.xp import XP

from adversarial_trainer.dora_main import TrainMain, exit_with_error, get_explore
from solvers import check_config

from ._local import Devices, LocalRun, run_all, visible_gpus

PROG = f"python -m {__package__}"


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Run the experiments of a grid on this machine, without SLURM. They have the "
        "signatures and folders that `dora grid` gives them. Finished ones are not run again, "
        "unfinished ones go on.",
        epilog="Exit status: 0 if all runs are finished, 1 if not, 2 for a wrong command line, 130 "
        "after Ctrl-C, which ends all runs; the same command goes on with them.",
    )
    parser.add_argument("grid", nargs="?", help="name of the grid; without it, they are listed")
    parser.add_argument(
        "rest",
        nargs="*",
        metavar="pattern | key=value",
        help="take only runs with these numbers, or with all these patterns in their names "
        "(!pattern: without it), as `dora grid` has them; and set these keys in all of them: what "
        "changes the result makes other signatures",
    )
    parser.add_argument("-j", "--jobs", type=int, default=1, help="runs at a time (1)")
    parser.add_argument("--dry_run", action="store_true", help="show what would run")
    parser.add_argument("-r", "--retry", action="store_true", help="run failed ones again as well")
    parser.add_argument(
        "--update-every", type=float, default=60.0, metavar="SECONDS", help="between tables (60)"
    )
    return parser


class _Recorder(Herd):
    """Takes down the overrides of each experiment, where Dora's own makes ready to submit it."""

    def __init__(self) -> None:
        super().__init__()
        self.argvs: list[list[str]] = []

    def add_sheep(self, shepherd: Any, argv: list[str], slurm: Any, pool: Any = None) -> None:
        self.argvs.append(argv)


def experiments(
    main: TrainMain, explorer: Explorer, patterns: Sequence[str], overrides: Sequence[str]
) -> list[LocalRun]:
    """Those of a grid that fit all `patterns`, with `overrides` on top, checked.

    Patterns and numbers select as in `dora grid`, so they are for names without the overrides.
    """
    herd = _Recorder()
    shepherd: Any = SimpleNamespace(main=main)  # all that a launcher asks of it
    explorer(Launcher(shepherd, SlurmConfig(), herd))
    argvs = herd.argvs
    if patterns:
        sheep = [Sheep(xp) for xp in _compose(main, argvs)]
        try:
            argvs = [s.xp.argv for s in _filter_grid_sheeps(list(patterns), main, sheep)]
        except IndexError:
            exit_with_error(f"{' '.join(patterns)}: the grid has runs 0 to {len(sheep) - 1}.")
    # Like Dora, take what is the same experiment once.
    xps = {xp.sig: xp for xp in _compose(main, [[*argv, *overrides] for argv in argvs])}
    for xp in xps.values():
        try:
            check_config(xp.cfg)
        except ValueError as exc:
            exit_with_error(exc)
    return [LocalRun(xp) for xp in xps.values()]


def _compose(main: TrainMain, argvs: Sequence[Sequence[str]]) -> list[XP]:
    if not argvs:
        return []
    first = main.get_xp(argvs[0])  # a wrong override is told of here, once
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return [first, *pool.map(main.get_xp, argvs[1:])]


class Monitor:
    """Prints what becomes of the runs."""

    def __init__(self, main: TrainMain, explorer: Explorer, runs: Sequence[LocalRun]) -> None:
        self.main = main
        self.explorer = explorer
        self.runs = runs
        names, _ = main.get_names([run.xp for run in runs])
        self.names = {
            run.xp.sig: f"{run.xp.sig} {name}".rstrip()
            for run, name in zip(runs, names, strict=True)
        }

    def name(self, run: LocalRun) -> str:
        return self.names[run.xp.sig]

    def table(self) -> None:
        """The explorer's table, as `dora grid` prints it."""
        monitor(RunGridArgs(), self.main, self.explorer, list(self.runs), print)
        sys.stdout.flush()

    def report(self, run: LocalRun | None) -> None:
        """What happened to `run`, and the table, but not at each start."""
        if run is None:
            print(time.strftime("%H:%M:%S"))
        elif run.elsewhere:
            print(f"Left out, {run.elsewhere} has it: {self.name(run)}")
        elif run.process is not None:
            gpu = "" if run.gpu is None else f" on GPU {run.gpu}"
            print(f"Started{gpu}: {self.name(run)}, log in {run.log}", flush=True)
            return
        else:
            seconds = time.monotonic() - run.started
            verb = "Finished" if run.is_finished() else "Failed"
            print(f"{verb} after {seconds:.0f} s: {self.name(run)}")
        self.table()

    def summary(self) -> bool:
        """Tell failures, with the ends of their logs; whether all runs are finished."""
        states = [run.state() for run in self.runs]
        print(f"{states.count('COMPLETED')} of {len(self.runs)} runs are finished.")
        for run, state in zip(self.runs, states, strict=True):
            if state != "FAILED":
                continue
            print(f"\nFailed: {self.name(run)}: {run.failure.read_text().strip()}")
            if run.log.exists():
                print(f"{run.log} ends with")
                print("".join(f"    {line}\n" for line in run.last_lines()), end="")
        return all(state == "COMPLETED" for state in states)


def main() -> int:
    args = get_parser().parse_intermixed_args()
    if args.jobs < 1:
        exit_with_error(f"-j {args.jobs}: it must be >= 1.")
    dora_main = get_main(package=__package__.rpartition(".")[0])
    explorer = get_explore(SimpleNamespace(grid=args.grid), dora_main)
    overrides = [arg for arg in args.rest if "=" in arg]
    patterns = [arg for arg in args.rest if "=" not in arg]
    runs = experiments(dora_main, explorer, patterns, overrides)
    if not runs:
        exit_with_error(f"no run of {args.grid} fits {' '.join(patterns)}.")
    shown = Monitor(dora_main, explorer, runs)
    wanted = [
        run for run in runs if run.state() == "PENDING" or (args.retry and run.state() == "FAILED")
    ]
    shown.table()
    if args.dry_run:
        for run in wanted:
            print(f"{run.xp.sig}: dora run {shlex.join(run.xp.argv)}")
        return 0
    devices = Devices(visible_gpus(os.environ, torch.cuda.device_count()))
    again = shlex.join(["python", "-m", str(__package__), *sys.argv[1:]])
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C, but for `nohup`
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        run_all(wanted, dora_main, args.jobs, devices, shown.report, args.update_every)
    except KeyboardInterrupt:
        print(f"\nInterrupted, all runs are ended. This goes on with them:\n  {again}")
        return 130
    finished = shown.summary()
    if not finished and not args.retry:
        print(f"\nThis runs failed ones again:\n  {again} --retry")
    return 0 if finished else 1


if __name__ == "__main__":
    sys.exit(main())
