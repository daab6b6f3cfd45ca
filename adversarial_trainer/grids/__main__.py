"""`python -m adversarial_trainer.grids NAME`: a grid on this machine, without SLURM.

The same experiments as those of `dora grid NAME`, in the same folders.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from dora.conf import SlurmConfig
from dora.explore import Explorer, Herd, Launcher

# Dora's own, so that patterns are those of `dora grid`.
from dora.grid import RunGridArgs, _filter_grid_sheeps, monitor

from adversarial_trainer.training.experiment import TrainMain, exit_with_error

from ._local import LocalRun, run_all

OWN_PACKAGE = __package__.rpartition(".")[0]


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description="Run the experiments of a grid on this machine, without SLURM. They have the "
        "signatures and folders that `dora grid` gives them. Finished ones are not run again, "
        "unfinished and failed ones are resumed.",
        epilog="Exit status: 0 if all runs are finished, 1 if not, 2 for a wrong command line, 130 "
        "after Ctrl-C, which ends all runs; the same command resumes them.",
    )
    parser.add_argument("grid", nargs="?", default="", help="its name; without it, they are listed")
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
    parser.add_argument(
        "-P",
        "--package",
        default=os.environ.get("DORA_PACKAGE") or OWN_PACKAGE,
        help=f"the package whose grids these are, as for dora (DORA_PACKAGE, else {OWN_PACKAGE})",
    )
    return parser


def get_runs(
    main: TrainMain, explorer: Explorer, patterns: Sequence[str], overrides: Sequence[str]
) -> list[LocalRun]:
    """Return the runs of a grid that fit all `patterns`, with `overrides` on top; all are checked.

    Patterns and numbers select as in `dora grid`, so they are for names without the overrides.
    """
    herd = Herd()
    shepherd: Any = SimpleNamespace(  # all that a launcher asks of it
        main=main, get_sheep_from_argv=lambda argv: LocalRun(main.get_xp(argv))
    )
    explorer(Launcher(shepherd, SlurmConfig(), herd))
    runs: Any = list(herd.sheeps.values())
    try:
        runs = _filter_grid_sheeps(list(patterns), main, runs)
    except IndexError:
        exit_with_error(f"{' '.join(patterns)}: the grid has runs 0 to {len(runs) - 1}.")
    if not runs:
        exit_with_error(f"no run of the grid fits {' '.join(patterns)}.")
    if overrides:
        xps = [main.get_xp([*run.xp.argv, *overrides]) for run in runs]
        # The same experiment once, as Dora does.
        runs = [LocalRun(xp) for xp in {xp.sig: xp for xp in xps}.values()]
    names, _ = main.get_names([run.xp for run in runs])
    for run, name in zip(runs, names, strict=True):
        run.name = f"{run.xp.sig} {name}".rstrip()
    return runs


def main() -> int:
    args = get_parser().parse_intermixed_args()
    if args.jobs < 1:
        exit_with_error(f"-j {args.jobs}: it must be >= 1.")
    dora_main = importlib.import_module(f"{args.package}.train").main
    dora_main.check_grid(args.grid)
    grids = dora_main.dora.grid_package or f"{args.package}.grids"
    explorer = importlib.import_module(f"{grids}.{args.grid}").explorer
    overrides = [arg for arg in args.rest if "=" in arg]
    patterns = [arg for arg in args.rest if "=" not in arg]
    runs = get_runs(dora_main, explorer, patterns, overrides)

    def show_table() -> None:
        monitor(RunGridArgs(), dora_main, explorer, list(runs), print)
        sys.stdout.flush()

    show_table()
    wanted = [run for run in runs if run.state() == "PENDING"]
    if args.dry_run:
        for run in wanted:
            print(f"{run.xp.sig}: dora run {shlex.join(run.xp.argv)}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C, but for `nohup`
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        run_all(wanted, dora_main, args.jobs, show_table)
    except KeyboardInterrupt:
        print("\nInterrupted, all runs are ended. The same command resumes them.")
        return 130
    finished = [run.state() for run in runs].count("COMPLETED")
    print(f"Finished runs: {finished} of {len(runs)}.")
    for run in runs:
        if run.failure:
            print(f"\nFailed: {run.name}: {run.failure}")
            lines = run.output.read_text(errors="replace").splitlines()[-10:]
            print("\n    ".join([f"{run.output} ends with", *lines]))
    return 0 if finished == len(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
