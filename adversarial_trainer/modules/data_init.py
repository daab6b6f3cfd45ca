"""Weights that suit the data from the first update on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

Convolution = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d


def data_dependent_init(module: nn.Module, forward: Callable[[], object]) -> list[nn.Module]:
    """Scale and shift each convolution so that its output, on given data, has mean 0, variance 1.

    Salimans and Kingma (arXiv 1602.07868, section 3). With torch's default weights the signal
    shrinks from layer to layer: what an untrained SEANet encoder puts out varies by 1e-4 of its
    constant part, so that all frames fall on one code and the codebooks collapse.

    Layers are treated in the order in which the data reaches them, each after those before it. A
    transposed convolution gets one scale for all its channels: its weight norm has none for each.
    Spectrally normed ones keep their scale.

    Args:
        module: its convolutions are changed, in place.
        forward: runs data through `module`; called once, without gradients.

    Returns:
        The convolutions that were changed, in the order of the data.
    """
    done: list[nn.Module] = []

    def normalise(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if conv in done or not isinstance(conv, Convolution):
            return None
        scaled = scale_parameter(conv)
        if scaled is None:
            return None
        done.append(conv)
        dims = [d for d in range(output.dim()) if d != 1]
        mean = output.mean(dims)
        centred = output - _per_channel(mean, output)
        # A bias takes the mean away; without one, what is left of it counts as variation.
        if conv.bias is None:
            mean, centred = torch.zeros_like(mean), output
        one_scale = isinstance(conv, nn.ConvTranspose1d)
        scale = centred.square().mean(None if one_scale else dims).rsqrt()
        # Silence, or a dead channel, says nothing about the scale.
        scale = torch.where(scale.isfinite(), scale, torch.ones_like(scale))
        scaled.mul_(scale.view(-1, *[1] * (scaled.dim() - 1)))
        if conv.bias is not None:
            conv.bias.copy_((conv.bias - mean) * scale)
        return centred * _per_channel(scale, output)

    convolutions = [m for m in module.modules() if isinstance(m, Convolution)]
    handles = [conv.register_forward_hook(normalise) for conv in convolutions]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return done


def scale_parameter(conv: nn.Module) -> nn.Parameter | None:
    """The parameter that the output of `conv` (its bias aside) is proportional to."""
    if not parametrize.is_parametrized(conv, "weight"):
        weight = conv.weight
        return weight if isinstance(weight, nn.Parameter) else None
    chain = conv.get_submodule("parametrizations.weight")
    if any(isinstance(step, _SpectralNorm) for step in chain.children()):
        return None
    return chain.get_parameter("original0")  # weight norm's magnitude


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """[C] -> [1, C, 1, ...], to go with `like` [B, C, ...]."""
    return values.view(1, -1, *[1] * (like.dim() - 2))
