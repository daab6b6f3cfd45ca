"""The adversarial part of a step: the discriminators' update, then the generator's losses.

The second includes the gradients of adv and feat with respect to the reconstruction, one for each,
as the balancer takes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import ceiling, flops, memory, sides
from .sides import Side
from .timing import in_turn, print_table, seconds_on

UPDATE, LOSSES = PARTS = "discriminators' update", "generator's losses and gradients"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    sides.add_arguments(parser)


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each side, then those of the two parts."""
    names = sides.names(args)
    built, calls, work = {}, {}, {}
    for name in names:
        side, real = sides.build(name, args)
        if side.cycle > 1:
            raise SystemExit("What options do at each so many steps is measured by `step` alone.")
        built[name] = side
        by_part = _calls(side, real)
        calls.update({f"{part} {name}": call for part, call in by_part.items()})
        if not side.compiled:
            work[name] = {part: _count(call) for part, call in by_part.items()}
    timed = in_turn(calls, args.rounds, seconds_on(args.device), warmup=1)
    shares = {
        name: [{part: timed[f"{part} {name}"][i] for part in PARTS} for i in range(args.rounds)]
        for name in names
    }
    rows = sides.compared({n: [sum(r.values()) for r in rounds] for n, rounds in shares.items()})
    if args.memory:
        memory.add_columns(rows, _both, args)
    print_table(sides.title(args), rows)
    return rows + ceiling.report(PARTS, built, work, shares, args.device)


def _calls(side: Side, real: Tensor) -> dict[str, Callable[[], object]]:
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(real.shape, generator=generator).to(real)
    fake = (0.9 * real + 0.05 * noise).requires_grad_()

    def losses() -> None:
        for loss in side.adversarial(fake, real):
            torch.autograd.grad(loss, [fake], retain_graph=True)

    return {UPDATE: lambda: side.train_adv(fake, real), LOSSES: losses}


def _count(call: Callable[[], object]) -> float:
    with flops.counter() as counted:
        call()
    return counted.get_total_flops()


def _both(name: str, args: argparse.Namespace) -> Callable[[], object]:
    """For a process of its own."""
    calls = _calls(*sides.build(name, args))
    return lambda: [call() for call in calls.values()]
