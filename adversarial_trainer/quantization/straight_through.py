"""The gradient of a quantizer."""

from __future__ import annotations

from typing import Any

import torch


class StraightThrough(torch.autograd.Function):
    """(quantized, penalty), both with the gradients that the caller states, to x alone."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        quantized: torch.Tensor,
        penalty: torch.Tensor,
        penalty_grad: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(penalty_grad)
        # Copies: an output that is a view of an input could not be changed in place.
        return quantized.clone(memory_format=torch.contiguous_format), penalty.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: torch.Tensor, grad_penalty: torch.Tensor) -> Any:
        (penalty_grad,) = ctx.saved_tensors
        return grad_out + grad_penalty * penalty_grad, None, None, None
