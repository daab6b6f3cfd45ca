"""Ways to average gradients over two processes: forward and backward of a recipe's generator.

`after` sends all when the backward is over, `overlap` while it runs (the default of training),
`flashy` is flashy.distrib.eager_sync_model, one message a parameter, `ddp` is torch's
DistributedDataParallel. The last two average over ranks, not over items.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import flashy
import torch
from torch.nn.parallel import DistributedDataParallel

from adversarial_trainer import distrib

from .processes import independent, on_ranks, together
from .solvers_ready import noise, ready_solver
from .timing import in_turn, print_table, summarise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4, help="over all processes")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("overrides", nargs="*", default=["solver=encodec"], help="as for dora run")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each way."""
    first, *_ = on_ranks(_worker, args.processes, args.overrides, args.batch_size, args.rounds)
    none = summarise(first["none"]).median
    rows = [
        {
            "way": name,
            "forward and backward, ms": str(summarise(seconds)),
            "over none": f"{summarise(seconds).median / none:.3f}",
        }
        for name, seconds in first.items()
    ]
    print_table(f"{' '.join(args.overrides)}, {args.processes} processes", rows)
    return rows


def _worker(overrides: list[str], batch_size: int, rounds: int) -> dict[str, list[float]]:
    # Codebooks learn by messages of their own, which are not what is measured.
    solver = ready_solver([*overrides, "quantizer=none", "adversarial=none"])
    model = solver.model
    batch = noise(solver, batch_size).wav.to(solver.like)
    gradient = torch.randn_like(batch)
    after = distrib.GradientSync(model.parameters(), overlap=False)
    overlap = distrib.GradientSync(model.parameters())
    wrapped = DistributedDataParallel(model)

    def backward(call: Callable[..., Any] = model) -> None:
        model.zero_grad()
        call(batch).x.backward(gradient)

    def none() -> None:
        # `no_sync`: DDP's hooks stay on the parameters.
        with wrapped.no_sync(), independent():
            backward()

    def with_sync(sync: distrib.GradientSync) -> Callable[[], None]:
        def call() -> None:
            with wrapped.no_sync(), sync(len(batch)):
                backward()

        return call

    def with_flashy() -> None:
        with wrapped.no_sync(), flashy.distrib.eager_sync_model(model):
            backward()

    ways = {
        "none": none,
        "after": with_sync(after),
        "overlap": with_sync(overlap),
        "flashy": with_flashy,
        "ddp": lambda: backward(wrapped),
    }
    return in_turn(ways, rounds, together)
