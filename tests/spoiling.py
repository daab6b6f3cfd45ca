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
from torch import Tensor, nn

from adversarial_trainer.data import Batch
from solvers import CompressionSolver


def started(folder: Path, audio: Path, *overrides: str) -> CompressionSolver:
    solver = make_solver(folder, audio, *overrides)
    solver.start()
    solver.model.train()
    if solver.adversarial is not None:
        solver.adversarial.train()
    return solver


def batches(solver: CompressionSolver) -> list[Batch]:
    solver.data.train.set_position(1, 0)
    return list(solver.data.train)


def state_of(solver: CompressionSolver) -> dict[str, Any]:
    """All state, buffers that are in no state dict included."""
    solver.ranks.gather()
    state = solver.state_dict()
    state.pop("config_text")
    modules = [solver.model] if solver.adversarial is None else [solver.model, solver.adversarial]
    return deepcopy({**state, "modules": [snapshot(module) for module in modules]})


def one(x: Tensor, value: float) -> Tensor:
    """`x` with the element in its middle replaced."""
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


def last_parameter(module: nn.Module) -> nn.Parameter:
    return list(module.parameters())[-1]


def in_codec_gradient(solver: CompressionSolver, batch: Batch, value: float) -> Any:
    return last_parameter(solver.model.encoder).register_hook(lambda grad: one(grad, value))


def in_discriminator_gradient(solver: CompressionSolver, batch: Batch, value: float) -> Any:
    assert solver.adversarial is not None
    return last_parameter(solver.adversarial.adversary).register_hook(lambda g: one(g, value))


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
    """A step with a fault in it."""
    batch = Batch(batch.wav.clone(), batch.infos)
    with ExitStack() as stack:
        handle = FAULTS[name][0](solver, batch, value)
        if handle is not None:
            stack.callback(handle.remove)
        return solver.train_step(batch)
