"""Multi-Scale Discriminator (MelGAN, arXiv 1910.06711; HiFi-GAN, arXiv 2010.05646)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from adversarial_trainer.adversarial.discriminators.base import (
    MultiDiscriminator,
    SubDiscriminator,
)
from adversarial_trainer.modules.checks import check_lists, check_sizes
from adversarial_trainer.modules.conv import pad1d
from adversarial_trainer.modules.norm import NormConv1d
from adversarial_trainer.registry import register, unknown_name


class ReflectionPad1d(nn.ReflectionPad1d):
    """`nn.ReflectionPad1d` for inputs of any length, also shorter than the padding."""

    def forward(self, input: Tensor) -> Tensor:
        left, right = self.padding
        return pad1d(input, (left, right), "reflect")


PADS: dict[str, type[nn.Module]] = {
    "ReflectionPad1d": ReflectionPad1d,
    "ReplicationPad1d": nn.ReplicationPad1d,
    "ZeroPad1d": nn.ZeroPad1d,
    "ConstantPad1d": nn.ConstantPad1d,
}


class ScaleDiscriminator(SubDiscriminator):
    """Strided, grouped convolutions over the waveform.

    Args: see `SubDiscriminator`, and
        kernel_sizes: Two odd numbers k1, k2. The first convolution has kernel k1 * k2, the one
            before the last k1, the last k2.
        downsample_scales: One inner convolution each: it multiplies the filters by its scale and
            divides the rate by it.
        inner_kernel_sizes, groups, strides, paddings: Of the inner convolutions, as many as
            `downsample_scales`. Defaults: 10 * scale + 1, a quarter of the incoming filters, the
            scale, and (kernel - 1) // 2.
        pad, pad_params: Padding of the first convolution, a key of `PADS`, and its arguments.

    Shape:
        - logits: [B, out_channels, ceil(T / prod(strides))] for odd inner kernels
        - feature maps: len(downsample_scales) + 2 activations, then the logits
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        kernel_sizes: Sequence[int] = (5, 3),
        filters: int = 16,
        max_filters: int = 1024,
        downsample_scales: Sequence[int] = (4, 4, 4, 4),
        inner_kernel_sizes: Sequence[int] | None = None,
        groups: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        paddings: Sequence[int] | None = None,
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: Mapping[str, Any] | None = None,
        pad: str = "ReflectionPad1d",
        pad_params: Mapping[str, Any] | None = None,
    ):
        super().__init__(in_channels, out_channels, activation, activation_params)
        check_lists(2, kernel_sizes=kernel_sizes)
        first, last = kernel_sizes
        if first % 2 == 0 or last % 2 == 0:
            raise ValueError(f"kernel_sizes must be odd, got {kernel_sizes!r}.")
        check_sizes(filters=filters, max_filters=max_filters)
        check_lists(downsample_scales=downsample_scales)
        count = len(downsample_scales)
        kernels = inner_kernel_sizes or [10 * scale + 1 for scale in downsample_scales]
        strides = strides or downsample_scales
        check_lists(count, inner_kernel_sizes=kernels, strides=strides)
        paddings = paddings or [(kernel - 1) // 2 for kernel in kernels]
        check_lists(count, 0, paddings=paddings)
        widths = [filters]  # after each of the first and the inner convolutions
        for scale in downsample_scales:
            widths.append(min(widths[-1] * scale, max_filters))
        groups = groups or [max(width // 4, 1) for width in widths[:-1]]
        check_lists(count, groups=groups)
        if pad not in PADS:
            raise unknown_name("pad", pad, PADS)
        conv = partial(NormConv1d, norm=norm)
        around = PADS[pad]((first * last - 1) // 2, **(pad_params or {}))
        self.convs = nn.ModuleList(
            [nn.Sequential(around, conv(in_channels, filters, first * last))]
        )
        for i in range(count):
            sizes = kernels[i], strides[i], paddings[i]
            self.convs.append(conv(widths[i], widths[i + 1], *sizes, groups=groups[i]))
        wider = min(widths[-1] * 2, max_filters)
        self.convs.append(conv(widths[-1], wider, first, padding=first // 2))
        self.conv_post = conv(wider, out_channels, last, padding=last // 2)


@register("discriminator", "msd")
class MultiScaleDiscriminator(MultiDiscriminator):
    """Multi-Scale Discriminator (MSD): the first scale gets the audio, each further one the audio
    average-pooled once more.

    Args:
        in_channels, out_channels: Channels of the audio and of the logits.
        downsample_factor: Each scale's rate is the one before divided by this. Pooling has kernel
            2 * factor, stride and padding factor, as in HiFi-GAN.
        scale_norms: Normalization of each scale; their number is the number of scales.
        kwargs: Other arguments of `ScaleDiscriminator`, for all scales.
    """

    kwargs_of = ScaleDiscriminator
    kwargs_set = ("norm",)

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        downsample_factor: int = 2,
        scale_norms: Sequence[str] = ("weight_norm", "weight_norm", "weight_norm"),
        **kwargs: Any,
    ):
        if isinstance(scale_norms, str) or not scale_norms:
            raise ValueError(f"scale_norms must be a list of norms, got {scale_norms!r}.")
        check_sizes(downsample_factor=downsample_factor)
        super().__init__(
            (ScaleDiscriminator(in_channels, out_channels, norm=n, **kwargs) for n in scale_norms),
            (f"scale{index + 1}" for index in range(len(scale_norms))),
        )
        factor = downsample_factor
        self.downsample = nn.AvgPool1d(2 * factor, factor, padding=factor)

    def preprocess(self, index: int, x: Tensor) -> Tensor:
        """Return `x` [B, C, T] pooled `index` times."""
        for _ in range(index):
            x = self.downsample(x)
        return x
