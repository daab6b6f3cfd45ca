"""A leaky ReLU that costs no memory beside the feature map that it makes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class KeptLeakyReLU(nn.LeakyReLU):
    """`nn.LeakyReLU` whose backward needs its output instead of its input.

    The output is a feature map and what the next convolution keeps anyway; the input would be kept
    for this alone. In place would do the same, but not for views out of autograd Functions, and
    who listens to the convolution would be left with changed numbers.

    Args:
        negative_slope: above 0; else the output does not tell the sign of the input.
    """

    def forward(self, input: Tensor) -> Tensor:
        return _LeakyReLU.apply(input, self.negative_slope)


class _LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        out = torch.nn.functional.leaky_relu(x, slope)
        ctx.save_for_backward(out)
        ctx.slope = slope
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (out,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(grad, out, ctx.slope, True), None
