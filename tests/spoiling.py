"""Faults that make a value of a training step not finite."""

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
    solver.ranks.gather()
    state = solver.state_dict()
    state.pop("config_text")
    modules = [solver.model] if solver.adversarial is None else [solver.model, solver.adversarial]
    return deepcopy({**state, "modules": [snapshot(module) for module in modules]})


def one(x: Tensor, value: float) -> Tensor:
    """Return `x` with the element in its middle replaced."""
    mask = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
    mask.view(-1)[x.numel() // 2] = True
    return torch.where(mask, torch.full_like(x, value), x)


Fault = Callable[[CompressionSolver, Batch, float], Any]


def in_input(solver: CompressionSolver, batch: Batch, value: float) -> None:
    batch.wav[:] = one(batch.wav, value)


def in_reconstruction(solver: CompressionSolver, batch: Batch, value: float) -> Any:
    return solver.model.decoder.register_forward_hook(lambda m, args, out: one(out, value))


def in_loss(solver: CompressionSolver, batch: Batch, value: float) -> Any:
    return solver.losses["msspec"].register_forward_hook(lambda m, args, out: out * value)


def in_codec_gradient(solver: CompressionSolver, batch: Batch, value: float) -> Any:
    *_, last = solver.model.encoder.parameters()
    return last.register_hook(lambda grad: one(grad, value))


def in_discriminator_gradient(solver: CompressionSolver, batch: Batch, value: float) -> Any:
    assert solver.adversarial is not None
    *_, last = solver.adversarial.adversary.parameters()
    return last.register_hook(lambda grad: one(grad, value))


# Name -> fault, and the value that the log must name (None: the generator's update is not skipped).
FAULTS: dict[str, tuple[Fault, str | None]] = {
    "input": (in_input, "the input"),
    "reconstruction": (in_reconstruction, "adv"),
    "loss": (in_loss, "msspec"),
    "codec gradient": (in_codec_gradient, "grad_norm"),
    "discriminator gradient": (in_discriminator_gradient, None),
}


def spoilt_step(
    solver: CompressionSolver, batch: Batch, name: str, value: float = math.nan
) -> dict[str, Tensor]:
    """Run a step with a fault in it."""
    batch = Batch(batch.wav.clone(), batch.infos)
    with ExitStack() as stack:
        handle = FAULTS[name][0](solver, batch, value)
        if handle is not None:
            stack.callback(handle.remove)
        return solver.train_step(batch)
