"""The whole training step on 1, 2, 4 processes of this machine, and what they send each other.

On one machine processes share the cores, so N of them are compared with N that do the same work
without a word to each other, in turn in the same processes: the efficiency is what messages and
waiting leave. Steps use all codebooks and always update the discriminators.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any
from unittest import mock

import torch

from adversarial_trainer import activity

from .processes import independent, on_ranks, together
from .solvers_ready import noise, ready_solver
from .timing import in_turn, print_table, summarise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch-size", type=int, default=8, help="over all processes")
    parser.add_argument("--rounds", type=int, default=10, help="steps of each kind")
    parser.add_argument("overrides", nargs="*", default=["solver=tiny"], help="as for dora run")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each number of processes."""
    rows: list[dict[str, Any]] = []
    for size in args.processes:
        first, *_ = on_ranks(_worker, size, args.overrides, args.batch_size, args.rounds)
        step = statistics.median(first["step"])
        row = {
            "processes": size,
            "step, ms": str(summarise(first["step"])),
            "without messages, ms": str(summarise(first["alone"])),
            "efficiency": f"{statistics.median(first['alone']) / step:.0%}",
            "messages a step": len(first["sizes"]),
            "MB a step": f"{sum(first['sizes']) / 1e6:.2f}",
            "speed-up over the first": f"{rows[0]['seconds'] / step if rows else 1:.2f}",
        }
        rows.append({**row, "seconds": step, "sizes": first["sizes"]})
    shown = [{k: v for k, v in row.items() if k not in ("seconds", "sizes")} for row in rows]
    print_table(f"{' '.join(args.overrides)}, batch {args.batch_size} over all processes", shown)
    sizes = [f"{size:,}" for size in rows[-1]["sizes"]]
    print(f"Messages of a step on {rows[-1]['processes']} processes, bytes: {', '.join(sizes)}")
    return rows


def _worker(overrides: list[str], batch_size: int, rounds: int) -> dict[str, Any]:
    exact = ["quantizer.q_dropout=0", "adversarial.probability=1", "adversarial.start_step=0"]
    solver = ready_solver([*overrides, *exact])
    batch = noise(solver, batch_size)

    def step() -> None:
        solver.train_step(batch)

    def alone() -> None:
        with independent():
            solver.train_step(batch)

    seconds = in_turn({"step": step, "alone": alone}, rounds, together)
    sizes: list[int] = []
    with mock.patch.object(activity, "collective", sizes.append):
        step()
    # A slow rank holds up the others, and so all have the same times; rank 0's will do.
    return {**seconds, "sizes": sizes if torch.distributed.get_world_size() > 1 else []}
