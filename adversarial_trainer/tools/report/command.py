"""Command line of pages."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .page import NAME, write_comparison, write_report
from .run import find_run_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the options of `report`."""
    parser.description = (
        "Write one HTML file with audio, spectrograms, curves and the configuration "
        "of a run; of several runs, one that compares them. It needs no network."
    )
    parser.epilog = "What is on the page: docs/report.md."
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a signature (below DORA_DIR or outputs), or folder"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help=f"default: {NAME} in the run's folder; of several runs, ./{NAME}",
    )
    parser.add_argument("--force", action="store_true", help="let --out overwrite FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page, print its path, return 0. OSError where a run is not found or the page cannot
    be written."""
    folders = list(dict.fromkeys(find_run_folder(source) for source in args.runs))
    own = len(folders) == 1 and args.out is None
    out = folders[0] / NAME if own else Path(args.out or NAME)
    # The page in a run's own folder is made anew at each generate stage as well.
    if not own and os.path.lexists(out) and not args.force:
        raise FileExistsError(f"--out {str(out)!r} exists; --force overwrites it")
    if len(folders) == 1:
        write_report(folders[0], out)
    else:
        write_comparison(folders, out)
    print(out)
    return 0
