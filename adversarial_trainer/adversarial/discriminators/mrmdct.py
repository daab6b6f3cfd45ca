"""Multi-resolution MDCT discriminator (MDCTCodec, arXiv 2411.00464, section on MR-MDCTD; layers as
in its authors' xhjiang1/CFMDCTCodec, models.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from adversarial_trainer.adversarial.discriminators.base import (
    MultiDiscriminator,
    SubDiscriminator,
)
from adversarial_trainer.modules.checks import check_lists, check_sizes
from adversarial_trainer.modules.lapped import LappedTransform, mdct_basis
from adversarial_trainer.modules.norm import NormConv2d
from adversarial_trainer.registry import register

# Kernels and strides of the convolutions before the last, (coefficients, frames).
LAYERS = (
    ((7, 5), (2, 2)),
    ((5, 3), (2, 1)),
    ((5, 3), (2, 2)),
    ((3, 3), (2, 1)),
    ((3, 3), (2, 2)),
)


class MDCTDiscriminator(SubDiscriminator):
    """Convolutions over MDCT coefficients, with their signs.

    Args: see `SubDiscriminator` (all convolutions have `filters`), and
        num_coefficients: of a frame, which is its hop in samples; even.

    Shape:
        - input: [B, in_channels, T], with zeros of a hop on both sides, up to a whole hop
        - logits: [B, out_channels, coefficients', frames']
        - feature maps: 5 activations, then the logits
    """

    def __init__(
        self,
        num_coefficients: int,
        in_channels: int = 1,
        out_channels: int = 1,
        filters: int = 64,
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: Mapping[str, Any] | None = None,
    ):
        super().__init__(in_channels, out_channels, activation, activation_params)
        check_sizes(num_coefficients=num_coefficients, filters=filters)
        self.num_coefficients = num_coefficients
        basis, _, _ = mdct_basis(num_coefficients)
        self.transform = LappedTransform(basis, num_coefficients, side=num_coefficients)
        widths = [in_channels] + [filters] * len(LAYERS)
        self.convs = nn.ModuleList(
            NormConv2d(width, filters, kernel, stride, (kernel[0] // 2, kernel[1] // 2), norm=norm)
            for width, (kernel, stride) in zip(widths, LAYERS, strict=False)
        )
        self.conv_post = NormConv2d(filters, out_channels, 3, padding=1, norm=norm)

    def represent(self, x: Tensor) -> Tensor:
        # [B, C N, frames] -> [B, C, N, frames]
        return self.transform(x).unflatten(1, (self.in_channels, self.num_coefficients))


@register("discriminator", "mrmdct")
class MultiResolutionMDCTDiscriminator(MultiDiscriminator):
    """Multi-resolution MDCT discriminator (MR-MDCTD).

    Args:
        in_channels, out_channels: channels of the audio and of the logits.
        num_coefficients: one sub-discriminator each.
        kwargs: other arguments of `MDCTDiscriminator`, for all sub-discriminators.
    """

    kwargs_of = MDCTDiscriminator

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_coefficients: Sequence[int] = (50, 200, 20),
        **kwargs: Any,
    ):
        check_lists(num_coefficients=num_coefficients)
        super().__init__(
            (MDCTDiscriminator(n, in_channels, out_channels, **kwargs) for n in num_coefficients),
            (f"mdct{n}" for n in num_coefficients),
        )
