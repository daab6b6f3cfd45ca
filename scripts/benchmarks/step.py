"""The whole training step: ours, with or without options, against a straightforward one.

Steps always update the discriminators and use all codebooks. FLOPs are counted as torch dispatches
them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from . import ceiling, flops, memory, profiling, sides
from .parts import share_out
from .sides import Side
from .timing import clock, in_turn, print_table, seconds_on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    sides.add_arguments(parser)
    parser.add_argument("--no-parts", action="store_true", help="leave out the parts and peaks")
    parser.add_argument("--profile", action="store_true", help="also the ten longest operators")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each side, then those of the parts and of the profile."""
    built = {name: sides.build(name, args)[0] for name in sides.names(args)}
    work = {}
    if not args.no_parts:  # which also warms up
        for name, side in built.items():
            if not side.compiled:
                with flops.counter() as counted:
                    work[name] = _by_part(counted.get_total_flops, side)
    seconds, shares = _times(args, built)
    rows = sides.compared(seconds)
    if args.memory:
        memory.add_columns(rows, _step, args)
    print_table(sides.title(args), rows)
    if not args.no_parts:
        rows += ceiling.report(sides.PARTS, built, work, shares, args.device)
    if args.profile:
        ours = built["ours"]
        rows += profiling.report(ours.step, args.device, sides.DTYPES[ours.dtype], ours.cycle)
    return rows


def _times(
    args: argparse.Namespace, built: dict[str, Side]
) -> tuple[dict[str, list[float]], dict[str, list[dict[str, float]]]]:
    """Seconds of the steps, and of their parts.

    On a CPU both are of the same steps. On a GPU, where the host runs ahead, the end of a part is
    known by waiting for it: whole steps are then timed first.
    """
    shares: dict[str, list[dict[str, float]]] = {name: [] for name in built}

    def watched(name: str) -> None:
        shares[name].append(_by_part(lambda: clock(args.device), built[name]))

    whole = {name: side.step for name, side in built.items()}
    in_parts = {name: partial(watched, name) for name in built}
    measure = seconds_on(args.device)
    warmup = 2 if args.no_parts or args.device != "cpu" else 1
    if args.no_parts or args.device != "cpu":
        seconds = in_turn(whole, args.rounds, measure, warmup)
    if not args.no_parts:
        watched_seconds = in_turn(in_parts, args.rounds, measure, warmup)
        if args.device == "cpu":
            seconds = watched_seconds
    of_a_step = {name: [s / built[name].cycle for s in values] for name, values in seconds.items()}
    return of_a_step, {name: of_side[warmup:] for name, of_side in shares.items()}


def _by_part(clock: Callable[[], float], side: Side) -> dict[str, float]:
    return share_out(clock, side.parts, side.step, sides.REST, side.cycle)


def _step(name: str, args: argparse.Namespace) -> Callable[[], object]:
    """For a process of its own."""
    return sides.build(name, args)[0].step
