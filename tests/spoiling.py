"""Solvers for single steps, and faults that make a value of a step not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from micro import make_solver, snapshot
from torch import Tensor

from adversarial_trainer.data import Batch
from solvers import CompressionSolver


def started(folder: Path, audio: Path, *overrides: str) -> CompressionSolver:
    """Return a solver in training mode, after `start`."""
    solver = make_solver(folder, audio, *overrides)
    solver.start()
    solver.model.train()
    if solver.adversarial is not None:
        solver.adversarial.train()
    return solver


def batches(solver: CompressionSolver) -> list[Batch]:
    """Return the batches of the first epoch."""
    solver.data.train.set_position(1, 0)
    return list(solver.data.train)


def state_of(solver: CompressionSolver) -> dict[str, Any]:
    """Return all state, including buffers that are in no state dict."""
    state = solver.state_dict()
    state.pop("config_text")
    modules = [solver.model] if solver.adversarial is None else [solver.model, solver.adversarial]
    return deepcopy({**state, "modules": [snapshot(module) for module in modules]})


def one(x: Tensor, value: float) -> Tensor:
    """Return `x` with the element in its middle replaced."""
    mask = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
    mask.view(-1)[x.numel() // 2] = True
    return torch.where(mask, torch.full_like(x, value), x)


def spoil_gradient(module: Any, value: float) -> Any:
    *_, last = module.parameters()
    return last.register_hook(lambda grad: one(grad, value))


# Name -> fault with the value (its result is removed after the step), and what the log must name
# (None: the generator's update is not skipped).
FAULTS: dict[str, tuple[Callable[[Any, Batch, float], Any], str | None]] = {
    "input": (lambda s, batch, v: batch.wav.copy_(one(batch.wav, v)), "the input"),
    "reconstruction": (
        lambda s, b, v: s.model.decoder.register_forward_hook(lambda m, x, out: one(out, v)),
        "adv",
    ),
    "loss": (
        lambda s, b, v: s.losses["msspec"].register_forward_hook(lambda m, x, out: out * v),
        "msspec",
    ),
    "codec gradient": (lambda s, b, v: spoil_gradient(s.model.encoder, v), "grad_norm"),
    "discriminator gradient": (lambda s, b, v: spoil_gradient(s.adversarial.adversary, v), None),
}


def spoilt_step(
    solver: CompressionSolver, batch: Batch, name: str, value: float = math.nan
) -> dict[str, Tensor]:
    """Run a step with a fault in it."""
    batch = Batch(batch.wav.clone(), batch.infos)
    with ExitStack() as stack:
        handle = FAULTS[name][0](solver, batch, value)
        if hasattr(handle, "remove"):
            stack.callback(handle.remove)
        return solver.train_step(batch)
