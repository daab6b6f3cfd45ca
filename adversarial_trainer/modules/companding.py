"""Square root of signed numbers, with bounded slopes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-3  # below it (-60 dB of full scale) numbers are scaled and not compressed


class Compress(nn.Module):
    """x / (m^2 + EPS^2)^(1/4), with m = |x|: sign(x) sqrt|x| where |x| is large.

    The slope of sign(x) sqrt|x| is infinite at 0, that of this is EPS^(-1/2) at most.

    Shape: [B, channels parts K, F], real parts of an audio channel ahead of imaginary ones.

    Args:
        channels: of the audio.
        parts: 1 for real numbers, 2 for complex ones.
    """

    def __init__(self, channels: int = 1, parts: int = 1) -> None:
        super().__init__()
        self.shape = (channels, parts, -1)

    def forward(self, x: Tensor) -> Tensor:
        numbers = x.unflatten(1, self.shape)
        square = numbers.square().sum(2, keepdim=True)
        return (numbers * (square + EPS**2).pow(-0.25)).flatten(1, 3)


class Expand(nn.Module):
    """Inverse of `Compress` for real numbers: y |y| where |y| is large, with a slope of at least
    EPS^(1/2), so that what is 0 still learns.

    With q = y^2, `Compress` says q^2 (x^2 + EPS^2) = x^4, so x^2 = q (q + sqrt(q^2 + 4 EPS^2)) / 2.
    """

    def forward(self, y: Tensor) -> Tensor:
        square = y.square()  # q
        return y * ((square + torch.sqrt(square.square() + 4 * EPS**2)) / 2).sqrt()
