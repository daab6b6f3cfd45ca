"""Encoder and decoder of MDCT coefficients, one real number each, without a phase (MDCTCodec,
Jiang et al. 2024, arXiv 2411.00464)."""

from __future__ import annotations

from typing import Any

from torch import nn

from adversarial_trainer.registry import register

from .companding import Compress, Expand
from .frame import FrameDecoder, FrameEncoder
from .lapped import InverseLappedTransform, LappedTransform, mdct_basis


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
        basis, _, _ = mdct_basis(num_coefficients)
        hop_length = num_coefficients * stride
        front: list[nn.Module] = [LappedTransform(basis, num_coefficients, multiple=hop_length)]
        super().__init__(
            [*front, Compress(channels)] if companding else front,
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
        _, basis, window = mdct_basis(num_coefficients)
        inverse = InverseLappedTransform(basis, num_coefficients, window, channels)
        super().__init__(
            channels * num_coefficients,
            [Expand(), inverse] if companding else [inverse],
            hop_length=num_coefficients * stride,
            channels=channels,
            stride=stride,
            **kwargs,
        )
