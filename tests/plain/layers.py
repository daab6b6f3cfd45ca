"""Convolutions with torch's own weight or spectral norm; state-dict keys are the package's.

What makes them plain: torch's parametrizations, which compute the weight anew at each forward, and
torch's default memory format.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrizations


def normed(conv: nn.Module, norm: str) -> nn.Module:
    """`conv` with a norm on its weight. Raises ValueError for norms on the output."""
    if norm == "weight_norm":
        return parametrizations.weight_norm(conv)
    if norm == "spectral_norm":
        return parametrizations.spectral_norm(conv)
    if norm != "none":
        raise ValueError(f"The plain step has weight_norm, spectral_norm and none, not {norm!r}.")
    return conv


class NormConv(nn.Module):
    """A convolution in `conv`."""

    def __init__(self, conv: nn.Module, norm: str) -> None:
        super().__init__()
        self.conv = normed(conv, norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class NormConvTranspose(nn.Module):
    """A transposed convolution in `convtr`."""

    def __init__(self, conv: nn.Module, norm: str) -> None:
        super().__init__()
        self.convtr = normed(conv, norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.convtr(x)
