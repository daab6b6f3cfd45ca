"""Spectral norm of a weight (Miyato et al. 2018, arXiv 1802.05957)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize


class OverNorm(torch.autograd.Function):
    """W / s of W [O, K], with s = u^T W v for constant u [O], v [K].

    The gradient is (G - (G . W / s) u v^T) / s: three passes through the weight, where torch's own
    operations take eight. For the large weights of a multi-scale discriminator that was a tenth of
    a training step.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
        norm = torch.dot(u, torch.mv(weight, v))
        out = weight / norm
        ctx.save_for_backward(weight, out, u, v, norm)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        weight, out, u, v, norm = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated itself, by way of the norm too
            norm = torch.dot(u, torch.mv(weight, v))
        along = torch.dot(grad.reshape(-1), out.view(-1))
        return torch.addr(grad, u * -along, v).div_(norm), None, None


class SpectralNorm(parametrizations._SpectralNorm):
    """torch's parametrization, with the backward of `OverNorm`."""

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1 or self.dim != 0:
            return super().forward(weight)
        matrix = self._reshape_weight_to_matrix(weight)
        if self.training:
            self._power_method(matrix, self.n_power_iterations)
        # Copies: the next forward moves them.
        return OverNorm.apply(matrix, self._u.clone(), self._v.clone()).view_as(weight)


def spectral_norm(module: nn.Module) -> None:
    """Put it on `module.weight`, a convolution's, in place."""
    outputs = 1 if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d) else 0
    norm = SpectralNorm(module.weight, dim=outputs)  # type: ignore[arg-type]
    parametrize.register_parametrization(module, "weight", norm)
