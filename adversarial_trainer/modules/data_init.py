"""Data-dependent initialisation of convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Convolution = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d


def data_dependent_init(module: nn.Module, forward: Callable[[], object]) -> list[nn.Module]:
    """Scale and shift each convolution so that its output, on given data, has mean 0, variance 1.

    Salimans and Kingma (arXiv 1602.07868, section 3). With torch's default weights the signal
    shrinks from layer to layer: the output of an untrained SEANet encoder varies by 1e-4 of its
    constant part, so that all frames fall on one code and the codebooks collapse.

    Layers are treated in the order in which the data reaches them, each after those before it. A
    transposed convolution gets one scale for all channels: its weight norm has none for each.
    Layers with spectral norm keep their scale.

    Args:
        module: its convolutions are changed in place.
        forward: runs data through `module`; called once, without gradients.

    Returns:
        The convolutions that were changed, in the order of the data.
    """
    done: list[nn.Module] = []

    def normalise(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        parameter = scale_parameter(conv)
        if conv in done or parameter is None:
            return None
        done.append(conv)
        dims = [d for d in range(output.dim()) if d != 1]
        # Without a bias the mean cannot be taken away, and counts as variation.
        has_bias = isinstance(conv.bias, Tensor)
        mean = output.mean(dims, keepdim=True) if has_bias else output.new_zeros(1)
        centred = output - mean
        one_scale = isinstance(conv, nn.ConvTranspose1d)
        variance = centred.square().mean(None if one_scale else dims, keepdim=True)
        # A channel that hardly varies beside the others is not blown up to their level.
        scale = variance.clamp(min=1e-6 * variance.mean()).rsqrt()
        # A silent signal leaves the scale as it is.
        scale = torch.where(scale.isfinite(), scale, 1.0)
        parameter.mul_(scale.view(-1, *[1] * (parameter.dim() - 1)))
        if isinstance(conv.bias, Tensor):
            conv.bias.copy_((conv.bias - mean.flatten()) * scale.flatten())
        return centred * scale

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
    """Return the parameter that the output of `conv`, without its bias, is proportional to; None
    with spectral norm."""
    if not parametrize.is_parametrized(conv, "weight"):
        return conv.get_parameter("weight")
    parameters = dict(conv.get_submodule("parametrizations.weight").named_parameters())
    return parameters.get("original0")  # the magnitude of weight norm


def activity(x: Tensor) -> Tensor:
    """How loud the items of `x` [B, C, T] are for most of their time, [B]: the mean over a hundred
    pieces of the rms without the constant part. So a click of 10 ms in a second counts a tenth of
    its rms, and a constant nothing."""
    pieces = min(100, max(1, x.shape[-1] // 2))
    size = x.shape[-1] // pieces
    x = x[..., : pieces * size].unflatten(-1, (pieces, size))
    return x.std(-1, correction=0).mean((1, 2))
