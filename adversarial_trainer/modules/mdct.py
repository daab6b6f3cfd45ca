"""Encoder and decoder of MDCT coefficients, one real number each, without a phase (MDCTCodec,
Jiang et al. 2024, arXiv 2411.00464)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from adversarial_trainer.registry import register

from .companding import compress, expand
from .frame import FrameDecoder, FrameEncoder
from .lapped import InverseLappedTransform, LappedTransform, mdct_basis


class Compress(nn.Module):
    """`companding.compress` of each number."""

    def forward(self, x: Tensor) -> Tensor:
        return compress(x)


class Expand(nn.Module):
    """`companding.expand` of each number."""

    def forward(self, x: Tensor) -> Tensor:
        return expand(x)


@register("encoder", "mdct")
class MDCTEncoder(FrameEncoder):
    """MDCT of each audio channel, one after another, and ConvNeXt blocks.

    MDCTCodec has zeros of a whole hop ahead of the signal and behind it, and so a frame more.

    Args: those of `FrameBase`, and
        num_coefficients: of a frame, which is also its hop in samples; even.
            hop_length = num_coefficients * stride.
        companding: the blocks get the square roots of the coefficients, see `companding`.
    """

    kwargs_of = FrameEncoder
    kwargs_set = ("front", "inputs", "hop_length")

    def __init__(
        self,
        num_coefficients: int = 40,
        companding: bool = False,
        channels: int = 1,
        stride: int = 1,
        **kwargs: Any,
    ) -> None:
        check_coefficients(num_coefficients)
        basis, _, _ = mdct_basis(num_coefficients)
        hop_length = num_coefficients * stride
        super().__init__(
            [
                LappedTransform(basis, num_coefficients, multiple=hop_length),
                *([Compress()] if companding else []),
            ],
            channels * num_coefficients,
            hop_length=hop_length,
            channels=channels,
            stride=stride,
            **kwargs,
        )


@register("decoder", "mdct")
class MDCTDecoder(FrameDecoder):
    """ConvNeXt blocks and the inverse MDCT.

    Args: those of `FrameBase` and of `MDCTEncoder`.
    """

    kwargs_of = FrameDecoder
    kwargs_set = ("outputs", "head", "hop_length")

    def __init__(
        self,
        num_coefficients: int = 40,
        companding: bool = False,
        channels: int = 1,
        stride: int = 1,
        **kwargs: Any,
    ) -> None:
        check_coefficients(num_coefficients)
        _, basis, window = mdct_basis(num_coefficients)
        super().__init__(
            channels * num_coefficients,
            [
                *([Expand()] if companding else []),
                InverseLappedTransform(basis, num_coefficients, window, channels),
            ],
            hop_length=num_coefficients * stride,
            channels=channels,
            stride=stride,
            **kwargs,
        )


def check_coefficients(num_coefficients: int) -> None:
    """Raise ValueError unless frames can be centred on their hops."""
    if num_coefficients < 2 or num_coefficients % 2:
        raise ValueError(f"num_coefficients must be even and at least 2, got {num_coefficients}")
