"""Multi-Period Discriminator (HiFi-GAN, arXiv 2010.05646, section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from adversarial_trainer.adversarial.discriminators.base import (
    MultiDiscriminator,
    SubDiscriminator,
)
from adversarial_trainer.modules.checks import check_lists, check_sizes
from adversarial_trainer.modules.conv import pad1d
from adversarial_trainer.modules.norm import NormConv2d
from adversarial_trainer.registry import register


class PeriodDiscriminator(SubDiscriminator):
    """Convolutions along time on audio folded to rows of `period` samples: column p holds every
    `period`-th sample from p on, and columns are never mixed.

    Args: see `SubDiscriminator`, and
        period: Samples a row.
        n_layers: Number of convolutions before the last.
        kernel_sizes: Kernel of these convolutions and of the last, in rows; odd for any T.
        stride: Stride in rows of all but the last two convolutions.
        filters, filters_scale, max_filters: Layer i (from 0) has
            min(filters * filters_scale^(i + 1), max_filters) filters.

    Shape:
        - input: [B, in_channels, T], reflected at the end up to a whole row
        - logits: [B, out_channels, rows, period]
        - feature maps: `n_layers` activations, then the logits
    """

    def __init__(
        self,
        period: int,
        in_channels: int = 1,
        out_channels: int = 1,
        n_layers: int = 5,
        kernel_sizes: Sequence[int] = (5, 3),
        stride: int = 3,
        filters: int = 8,
        filters_scale: int = 4,
        max_filters: int = 1024,
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: Mapping[str, Any] | None = None,
        normalize_input: bool = False,
    ):
        super().__init__(in_channels, out_channels, activation, activation_params, normalize_input)
        check_lists(2, kernel_sizes=kernel_sizes)
        check_sizes(period=period, n_layers=n_layers, stride=stride, filters=filters)
        check_sizes(filters_scale=filters_scale, max_filters=max_filters)
        self.period = period

        def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> NormConv2d:
            padding = ((kernel - 1) // 2, 0)
            return NormConv2d(inputs, outputs, (kernel, 1), (stride, 1), padding, norm=norm)

        inner, last = kernel_sizes
        scales = [filters_scale ** (i + 1) for i in range(n_layers)]
        widths = [in_channels, *(min(filters * scale, max_filters) for scale in scales)]
        strides = [stride] * (n_layers - 1) + [1]
        self.convs = nn.ModuleList(
            conv(widths[i], widths[i + 1], inner, strides[i]) for i in range(n_layers)
        )
        self.conv_post = conv(widths[-1], out_channels, last)

    def represent(self, x: Tensor) -> Tensor:
        x = pad1d(x, (0, -x.shape[-1] % self.period), "reflect")  # any T, also below a period
        return x.unflatten(-1, (-1, self.period))  # [B, C, T] -> [B, C, rows, period]


@register("discriminator", "mpd")
class MultiPeriodDiscriminator(MultiDiscriminator):
    """Multi-Period Discriminator (MPD).

    Args:
        in_channels, out_channels: Channels of the audio and of the logits.
        periods: Samples a row, one sub-discriminator each.
        kwargs: Other arguments of `PeriodDiscriminator`, for all sub-discriminators.
    """

    kwargs_of = PeriodDiscriminator
    kwargs_set = ("period",)

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        **kwargs: Any,
    ):
        check_lists(periods=periods)
        super().__init__(
            (PeriodDiscriminator(n, in_channels, out_channels, **kwargs) for n in periods),
            (f"period{n}" for n in periods),
        )
