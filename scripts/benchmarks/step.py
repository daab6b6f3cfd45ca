"""The training step of the solver against a plain one, with equal weights on the same batch.

The plain step (tests/plain) is AudioCraft's loop, written straightforwardly. Both update the
discriminators at each step and use all codebooks.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from plain.step import PlainStep
from ready import ready_solver

from adversarial_trainer.data import Batch

from .memory import peak_of
from .timing import in_turn, print_table, summarise

SIDES = ("ours", "plain")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument("--discriminators", default="msstftd", help="adversarial=... of a run")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--length", type=float, default=1.0, help="of an item, in seconds")
    parser.add_argument("--precision", default="float32", help="of ours")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="also peak memory")
    parser.add_argument("--solver", default="encodec", help="the recipe")
    parser.add_argument("--override", nargs="+", default=[], metavar="KEY=VALUE", help="of both")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each side."""
    steps = {name: build(name, args) for name in SIDES}
    seconds = in_turn(steps, args.rounds, args.device)
    ours = statistics.median(seconds["ours"])
    rows: list[dict[str, Any]] = [
        {
            "side": name,
            "ms, median [quartiles]": str(summarise(values)),
            "ours is faster": f"{statistics.median(values) / ours:.2f}",
        }
        for name, values in seconds.items()
    ]
    if args.memory:
        peaks = {name: peak_of(build, name, args) for name in SIDES}
        for row in rows:
            peak = peaks[row["side"]]
            row["peak, MB"] = f"{peak.whole:.0f}"
            row["above the start, MB"] = f"{peak.above_start:.0f}"
            row["ours has"] = f"{peaks['ours'].above_start / peak.above_start:.2f}"
    print_table(
        f"solver={args.solver}, {args.discriminators}, batch {args.batch_size} x {args.length:g} s,"
        f" {args.device}, {args.threads} thread(s), {args.rounds} rounds",
        rows,
    )
    return rows


def overrides(args: argparse.Namespace) -> list[str]:
    """Configuration of both sides."""
    return [
        f"solver={args.solver}",
        f"adversarial={args.discriminators}",
        f"device={args.device}",
        f"precision={args.precision}",
        f"num_threads={args.threads}",
        f"dataset.batch_size={args.batch_size}",
        f"dataset.segment_duration={args.length}",
        *("quantizer.q_dropout=0", "quantizer.dropout_choices=null", "quantizer.bypass=0"),
        *("adversarial.probability=1", "adversarial.start_step=0"),
        *args.override,
    ]


def build(name: str, args: argparse.Namespace) -> Callable[[], object]:
    """One step of a side."""
    torch.set_num_threads(args.threads)
    solver = ready_solver(overrides(args))
    length = math.ceil(args.length * solver.cfg.sample_rate)
    generator = torch.Generator().manual_seed(1)
    shape = args.batch_size, solver.cfg.channels, length
    wav = 0.3 * torch.randn(shape, generator=generator).to(solver.like)
    if name == "plain":
        return partial(PlainStep(solver).train_step, wav)
    return partial(solver.train_step, Batch(wav, []))
