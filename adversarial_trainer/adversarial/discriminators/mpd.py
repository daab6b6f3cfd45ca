"""Multi-Period Discriminator (HiFi-GAN, arXiv 2010.05646, section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from adversarial_trainer.adversarial.discriminators.base import MultiDiscriminator, distinct
from adversarial_trainer.adversarial.discriminators.checks import (
    build_activation,
    check_ints,
    check_positive,
    check_waveform,
)
from adversarial_trainer.modules.conv import NormConv2d, pad1d
from adversarial_trainer.registry import register


class PeriodDiscriminator(nn.Module):
    """Convolutions along time on audio folded to rows of `period` samples: column p holds every
    `period`-th sample from p on, and columns are never mixed.

    Args:
        period: Samples a row.
        in_channels, out_channels: Channels of the audio and of the logits.
        n_layers: Number of convolutions before the last.
        kernel_sizes: Kernel of these convolutions and of the last, in rows, odd.
        stride: Stride in rows of all but the last two convolutions.
        filters, filters_scale, max_filters: Layer i (from 0) has
            min(filters * filters_scale^(i + 1), max_filters) filters.
        norm: Normalization of the convolutions (see `modules.conv`).
        activation, activation_params: Activation of torch.nn and its arguments; None stands for
            `{'negative_slope': 0.2}` with LeakyReLU.

    Shape:
        - input: [B, in_channels, T], T >= 1; reflected at the end up to a whole row
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
    ):
        super().__init__()
        inner, last = check_ints("kernel_sizes", kernel_sizes, 2, odd=True)
        check_positive(period=period, in_channels=in_channels, out_channels=out_channels)
        check_positive(n_layers=n_layers, stride=stride, filters=filters)
        check_positive(filters_scale=filters_scale, max_filters=max_filters)
        self.period = period
        self.in_channels = in_channels
        self.activation = build_activation(activation, activation_params)
        self.convs = nn.ModuleList()
        channels = in_channels
        for i in range(n_layers):
            wider = min(filters * filters_scale ** (i + 1), max_filters)
            steps = 1 if i == n_layers - 1 else stride
            self.convs.append(
                NormConv2d(
                    channels, wider, (inner, 1), (steps, 1), padding=(inner // 2, 0), norm=norm
                )
            )
            channels = wider
        self.conv_post = NormConv2d(
            channels, out_channels, (last, 1), padding=(last // 2, 0), norm=norm
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        check_waveform(x, self.in_channels)
        x = pad1d(x, (0, -x.shape[-1] % self.period), "reflect")  # any T, also below a period
        x = x.unflatten(-1, (-1, self.period))  # [B, C, T] -> [B, C, rows, period]
        fmap = []
        for conv in self.convs:
            x = self.activation(conv(x))
            fmap.append(x)
        logits = self.conv_post(x)
        return logits, [*fmap, logits]


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
        super().__init__()
        self.periods = check_ints("periods", periods)
        self.discriminators = nn.ModuleList(
            PeriodDiscriminator(period, in_channels, out_channels, **kwargs)
            for period in self.periods
        )

    @property
    def names(self) -> list[str]:
        return distinct(f"period{period}" for period in self.periods)
