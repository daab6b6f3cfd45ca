"""`make soak`: tiny runs, one after another, that are killed, stopped, starved of disk, damaged and
fed with NaN at random; after each restart it is checked that nothing was lost.

Each run is trained to its end in many lives. Every update of every life must have the very bits of
the same update of a reference that nothing happened to, and so must the final state, the history
and the checkpoints that are kept. Prints a table, and last `N faults, 0 lost`; the status is 1 if
anything was lost, and what is left of that run is then kept.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before torch: threads of its libraries do not survive a fork.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent))

from soaking.disk import enter_namespace  # noqa: E402

MAX_MINUTES = 120


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="soak.py", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help=f"at most {MAX_MINUTES}")
    parser.add_argument("--seed", type=int, default=0, help="of what happens when")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=1, help="of each run")
    real = (
        "so many of the lives are by `dora run` from the start of Python on; the others are forked"
    )
    parser.add_argument("--real", type=float, default=0.1, metavar="SHARE", help=real)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args(argv)
    if not 0 < args.minutes <= MAX_MINUTES:
        parser.error(f"--minutes {args.minutes:g}: more than 0, at most {MAX_MINUTES}")
    enter_namespace()
    from soaking.soak import Soak  # after that: it imports torch, which takes seconds

    return Soak(args.minutes, args.seed, args.processes, args.real).run(args.json)


if __name__ == "__main__":
    sys.exit(main())
