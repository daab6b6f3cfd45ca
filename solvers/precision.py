"""The type of numbers that training computes in."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)

# Of weights, optimizers, losses, balancer, averages and checkpoints.
STORED = {"float32": torch.float32, "float64": torch.float64, "bf16": torch.float32}

PRECISIONS = tuple(STORED)


def check_precision(precision: str, device: torch.device) -> None:
    """ValueError where `device` does not compute in that."""
    if precision != "bf16" or device.type == "cpu":
        return
    if device.type != "cuda" or not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"precision=bf16: device {device} has no arithmetic in bfloat16 (NVIDIA's have it from "
            "Ampere on); use precision=float32."
        )


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """For what runs in half precision with `bf16`: around forwards of generator and
    discriminators. Elsewhere, and with other precisions, all is as it is stored.

    Weights are cast at each use. Torch could keep the casts from one use to the next, but one that
    is made where no gradients are asked for (for the feature maps of the original, say) then
    serves all, and cuts the gradients off. It would save little: normed weights are never kept.
    """
    if precision != "bf16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


# Of a bf16 convolution's error to its result: rounding gives .003, a wrong kernel 1.
WRONG = 0.1


def avoid_wrong_kernels(modules: Mapping[str, nn.Module], audio: torch.Tensor) -> list[str]:
    """Let convolutions that are wrong in bfloat16 on this machine run in float32.

    oneDNN's with AMX (of torch 2.11) are, at 8 to 24 input channels with strides of 4 and 8: not
    imprecise but other numbers, and training then learns little, without a word. Each is tried at
    the sizes that it has in training, its output and the gradient of its input.

    Args:
        modules: by name. The first takes `audio`, each other one what the one before it returns.
            In training mode afterwards.
        audio: `[B, C, T]`, float32.

    Returns:
        The layers' names.
    """
    names: dict[nn.Module, str] = {
        layer: f"{key}.{name}"
        for key, module in modules.items()
        for name, layer in module.named_modules()
        if isinstance(layer, CONVOLUTIONS)
    }
    found: list[str] = []

    def look(module: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        if names[module] not in found and _error(module, args[0]) > WRONG:
            module.forward = partial(_in_float32, module)
            found.append(names[module])

    hooks = [layer.register_forward_hook(look) for layer in names]
    try:
        with torch.no_grad():
            for module in modules.values():
                audio = module.eval()(audio)
    finally:
        for module in modules.values():
            module.train()
        for hook in hooks:
            hook.remove()
    return found


def _in_float32(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return type(module).forward(module, x.float())


def _error(module: nn.Module, x: torch.Tensor) -> float:
    """Relative, of output and input's gradient in bfloat16."""
    results = []
    for half in (False, True):
        given = x.detach().float().requires_grad_()
        with torch.enable_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            out = type(module).forward(module, given)
        generator = torch.Generator(x.device).manual_seed(0)
        gradient = torch.randn(out.shape, generator=generator, device=x.device).to(out.dtype)
        results.append((out.detach().float(), *torch.autograd.grad(out, [given], gradient)))
    pairs = zip(*results, strict=True)
    return max(((a - b).norm() / a.norm().clamp_min(1e-12)).item() for a, b in pairs)
