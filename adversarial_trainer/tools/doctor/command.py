"""The command line `adversarial-trainer doctor`."""

from __future__ import annotations

import argparse
import json
import sys

from adversarial_trainer.tools.arguments import whole_number

from .formatting import to_json, to_text
from .problems import find_problems
from .stats import examine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the options of `doctor`."""
    parser.description = "Decode every audio file below FOLDER and report what is wrong with it."
    parser.epilog = (
        "Exit status: 0 no issues, 1 issues were found, 2 wrong command line or folder. "
        "The checks and the keys of the JSON are explained in docs/doctor.md."
    )
    parser.add_argument("folder", metavar="FOLDER", help="or a manifest (.jsonl, .jsonl.gz)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--workers", type=whole_number, metavar="N", help="threads; default one a core"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine, print, and return the exit status; ValueError or OSError for a wrong call."""
    report = examine(args.folder, args.workers, sys.stderr.isatty())
    problems = find_problems(report)
    if args.json:
        # ASCII; names that are not UTF-8 can be restored from their escapes with `os.fsencode`.
        print(json.dumps(to_json(report, problems), indent=1, allow_nan=False))
    else:
        sys.stdout.write(to_text(report, problems))
    return 1 if problems else 0
