"""The backward of a step: from the losses' values to the gradients of the codec's weights.

`plain` takes the gradient of each loss at the reconstruction, reads its norm back, and sends the
quantizer's penalty through the encoder by itself (plain/losses.py). `ours` sends all through the
codec at once and reads nothing back. `between norms` is ours at a step that takes no norms
(balancer.norms_every above 1): one backward through the discriminators too. The forwards are not
timed. With its `adversarial.eager_gradients`, training itself has the gradients of adv and feat
from the discriminators' forward already, so that this shows what they cost wherever they are taken.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from adversarial_trainer.losses import Balancer
from adversarial_trainer.models.builders import to_params
from solvers import CompressionSolver
from solvers.builders import PENALTY

from .plain import losses as plain
from .plain.step import BALANCER
from .solvers_ready import noise, ready_solver
from .timing import clock, in_turn, print_table, summarise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("overrides", nargs="*", default=["solver=encodec"], help="as for dora run")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each way."""
    torch.set_num_threads(args.threads)
    solver = ready_solver([*args.overrides, f"device={args.device}"])
    ways = {name: _timed(solver, args.batch_size, way) for name, way in _ways(solver).items()}
    seconds = in_turn(ways, args.rounds, lambda call: call(), warmup=1)  # type: ignore[arg-type,return-value]
    base = summarise(seconds["plain"]).median
    rows: list[dict[str, Any]] = [
        {
            "way": name,
            "backward, ms": str(summarise(values)),
            "plain / it": f"{base / summarise(values).median:.2f}",
        }
        for name, values in seconds.items()
    ]
    shown = f"{' '.join(args.overrides)}, batch {args.batch_size}, {args.threads} thread(s)"
    print_table(f"{shown}, on {args.device}; medians of {args.rounds} [quartiles]", rows)
    return rows


Way = Callable[[dict[str, torch.Tensor], torch.Tensor, torch.Tensor | None], object]


def _ways(solver: CompressionSolver) -> dict[str, Way]:
    weights = {name: w for name, w in solver.weights.items() if name != PENALTY and w > 0}
    options = to_params(solver.cfg.balancer)
    theirs = plain.Balancer(weights, **{name: options[name] for name in BALANCER})
    each = Balancer(weights, monitor=True, **{**options, "norms_every": 1})
    # Norms at the first call alone, which is of the warm-up.
    between = Balancer(weights, monitor=True, **{**options, "norms_every": 10**9})

    def plain_way(
        losses: dict[str, torch.Tensor], fake: torch.Tensor, penalty: torch.Tensor | None
    ) -> None:
        if penalty is not None:
            penalty.backward(retain_graph=True)
        theirs.backward(losses, fake)

    return {"plain": plain_way, "ours": each.backward, "between norms": between.backward}


def _timed(solver: CompressionSolver, batch_size: int, way: Way) -> Callable[[], float]:
    """A forward and a backward; seconds of the latter."""
    real = noise(solver, batch_size).wav.to(solver.like)
    device = solver.like.device

    def call() -> float:
        solver.model.zero_grad()
        result = solver.model(real)
        solver.model.quantizer.discard_update()
        if solver.adversarial is not None:
            solver.adversarial.schedule.step()  # `active`, as after `train_adv`
        losses = {name: loss(result.x, real) for name, loss in solver.losses.items()}
        if solver.adversarial is not None:
            solver.adversarial.eager_gradients = False
            adv, feat = solver.adversarial(result.x, real)
            losses |= {"adv": adv, "feat": feat}
        losses = {name: loss for name, loss in losses.items() if solver.weights.get(name)}
        penalty = result.penalty
        if penalty is not None:
            penalty = solver.weights.get(PENALTY, 0.0) * penalty
        began = clock(device)
        way(losses, result.x, penalty)
        return clock(device) - began

    return call
