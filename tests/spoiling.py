"""Faults that make something of a training step not finite, for real, at every place of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from micro import differences, make_solver, snapshot
from torch import Tensor, nn

from adversarial_trainer.data import Batch
from solvers import CompressionSolver

# What goes on at a bad step of the generator, on all ranks alike, beside the discriminators, which
# skip their own updates, and the balancer's averages of norms that are finite.
COUNTERS = {".updates", ".bad_steps_in_row", ".schedule.updates", ".shared_state.state"}


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
    """All there is: also buffers that are in no state dict."""
    solver.ranks.gather()
    state = solver.state_dict()
    state.pop("config_text")
    modules = [solver.model] if solver.adversarial is None else [solver.model, solver.adversarial]
    return deepcopy({**state, "modules": [snapshot(module) for module in modules]})


def codec_differences(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """What differs between two states, but for the discriminators and the balancer."""
    others = (".adversarial.", ".balancer.", ".modules.1")
    return {path for path in differences(before, after) if not path.startswith(others)}


# -- faults: each makes something of one step not finite, for real


class Spoil(torch.autograd.Function):
    """The identity, with gradients times `factor`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * ctx.factor, None


def one(x: Tensor, value: float, where: float = 0.5) -> Tensor:
    """`x` with one element replaced, that at the share `where` of all."""
    mask = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
    mask.view(-1)[int(x.numel() * where)] = True
    return torch.where(mask, torch.full_like(x, value), x)


Fault = Callable[[CompressionSolver, Batch, float], Any]


def in_input(solver: CompressionSolver, batch: Batch, value: float) -> None:
    batch.wav[:] = one(batch.wav, value)


def loud(solver: CompressionSolver, batch: Batch, value: float) -> None:
    batch.wav *= 1e38


def output_of(part: str) -> Fault:
    """In what the encoder or the decoder returns."""

    def fault(solver: CompressionSolver, batch: Batch, value: float) -> Any:
        module = getattr(solver.model, part)
        return module.register_forward_hook(lambda m, args, out: one(out, value))

    return fault


def in_penalty(solver: CompressionSolver, batch: Batch, value: float) -> Any:
    def hook(module: nn.Module, args: Any, result: Any) -> None:
        result.penalty = result.penalty * value

    return solver.model.quantizer.register_forward_hook(hook)


def second(solver: CompressionSolver) -> nn.Module:
    """The second sub-discriminator."""
    assert solver.adversarial is not None
    return solver.adversarial.adversary.discriminators[1]


def in_discriminator(call: int, what: str) -> Fault:
    """In logits or a feature map of the second sub-discriminator, at one of its four calls in a
    step: by `train_adv` and then by `gradients`, on the fake and then on the real."""

    def fault(solver: CompressionSolver, batch: Batch, value: float) -> Any:
        calls = []

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            calls.append(1)
            logits, maps = output
            if len(calls) != call:
                return output
            if what == "logits":
                # The generator's hinge2 loss takes +inf for a perfect answer.
                return one(logits, -value if call == 3 else value), maps
            return logits, [one(maps[0], value), *maps[1:]]

        return second(solver).register_forward_hook(hook)

    return fault


def loss_value(name: str) -> Fault:
    def fault(solver: CompressionSolver, batch: Batch, value: float) -> Any:
        return solver.losses[name].register_forward_hook(lambda m, args, out: out * value)

    return fault


def loss_gradient(name: str) -> Fault:
    """A finite loss whose gradient is not."""

    def fault(solver: CompressionSolver, batch: Batch, value: float) -> Any:
        hook = lambda m, args, out: Spoil.apply(out, value)  # noqa: E731
        return solver.losses[name].register_forward_hook(hook)

    return fault


def codec_gradient(solver: CompressionSolver, batch: Batch, value: float) -> Any:
    parameter = list(solver.model.encoder.parameters())[-1]
    return parameter.register_hook(lambda grad: one(grad, value))


def discriminator_gradient(solver: CompressionSolver, batch: Batch, value: float) -> Any:
    parameter = list(second(solver).parameters())[-1]
    return parameter.register_hook(lambda grad: one(grad, value))


# Name -> fault, and what must be found first.
EVERYWHERE: dict[str, tuple[Fault, str]] = {
    "input": (in_input, "input"),
    "overflow": (loud, "penalty"),
    "encoder": (output_of("encoder"), "penalty"),
    "penalty": (in_penalty, "penalty"),
    "reconstruction": (output_of("decoder"), "reconstruction"),
    "l1": (loss_value("l1"), "l1"),
    "msspec": (loss_value("msspec"), "msspec"),
    "gradient of l1": (loss_gradient("l1"), "norm_l1"),
    "codec's gradient": (codec_gradient, "grad_norm"),
}
ADVERSARIAL: dict[str, tuple[Fault, str]] = {
    "adv logits": (in_discriminator(3, "logits"), "adv"),
    "feature map, fake": (in_discriminator(3, "maps"), "adv"),
    "feature map, real": (in_discriminator(4, "maps"), "feat"),
}
D_GRADIENT = "discriminators' gradient"
FAULTS = {**EVERYWHERE, **ADVERSARIAL}


def spoilt_step(
    solver: CompressionSolver, batch: Batch, name: str, value: float = math.nan
) -> tuple[dict[str, Tensor], bool]:
    """A step with a fault in it."""
    batch = Batch(batch.wav.clone(), batch.infos)
    with ExitStack() as stack:
        fault = discriminator_gradient if name == D_GRADIENT else FAULTS[name][0]
        handle = fault(solver, batch, value)
        if handle is not None:
            stack.callback(handle.remove)
        return solver.train_step(batch)
