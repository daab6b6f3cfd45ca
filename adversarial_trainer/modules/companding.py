"""Square root of signed numbers, with bounded slopes."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-3  # below it (-60 dB of full scale) numbers are scaled and not compressed


def compress(x: Tensor, square: Tensor | None = None) -> Tensor:
    """Return x / (m^2 + EPS^2)^(1/4), with m = |x|: sign(x) sqrt|x| where |x| is large.

    The slope of sign(x) sqrt|x| is infinite at 0, that of this is EPS^(-1/2) at most.

    Args:
        square: m^2, where `x` are parts of complex numbers; None: x^2.
    """
    square = x.square() if square is None else square
    return x * (square + EPS**2).pow(-0.25)


def expand(y: Tensor) -> Tensor:
    """Inverse of `compress` for real numbers: y |y| where |y| is large, with a slope of at least
    EPS^(1/2), so that what is 0 still learns.

    With q = y^2, `compress` says q^2 (x^2 + EPS^2) = x^4, so x^2 = q (q + sqrt(q^2 + 4 EPS^2)) / 2.
    """
    square = y.square()  # q
    return y * ((square + torch.sqrt(square.square() + 4 * EPS**2)) / 2).sqrt()
