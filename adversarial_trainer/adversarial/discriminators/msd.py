"""Multi-Scale Discriminator (MelGAN, arXiv 1910.06711; HiFi-GAN, arXiv 2010.05646)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from adversarial_trainer.adversarial.discriminators.base import MultiDiscriminator
from adversarial_trainer.adversarial.discriminators.checks import (
    build_activation,
    check_ints,
    check_positive,
    check_waveform,
)
from adversarial_trainer.modules.conv import NormConv1d, pad1d
from adversarial_trainer.modules.norm import CONV_NORMALIZATIONS
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


class ScaleDiscriminator(nn.Module):
    """Strided, grouped convolutions over the waveform.

    Args:
        in_channels, out_channels: Channels of the audio and of the logits.
        kernel_sizes: Two odd numbers k1, k2. The first convolution has kernel k1 * k2, the one
            before the last k1, the last k2.
        filters: Filters of the first convolution.
        max_filters: Most filters a layer may have.
        downsample_scales: One inner convolution each: it multiplies the filters by its scale and
            divides the rate by it.
        inner_kernel_sizes, groups, strides, paddings: Of the inner convolutions, as many as
            `downsample_scales`. Defaults: 10 * scale + 1, a quarter of the incoming filters, the
            scale, and (kernel - 1) // 2 for the kernel actually used.
        norm: Normalization of the convolutions (see `modules.conv`).
        activation, activation_params: Activation of torch.nn and its arguments; None stands for
            `{'negative_slope': 0.2}` with LeakyReLU.
        pad, pad_params: Padding of the first convolution, a key of `PADS`, and its arguments.

    Shape:
        - input: [B, in_channels, T], T >= 1
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
        super().__init__()
        first, last = check_ints("kernel_sizes", kernel_sizes, 2, odd=True)
        check_positive(in_channels=in_channels, out_channels=out_channels)
        check_positive(filters=filters, max_filters=max_filters)
        scales = check_ints("downsample_scales", downsample_scales)

        def inner(key: str, values: Sequence[int] | None, default: Sequence[int]) -> Sequence[int]:
            if values is None:
                return default
            at_least = 0 if key == "paddings" else 1
            return check_ints(key, values, len(scales), like="downsample_scales", at_least=at_least)

        kernels = inner("inner_kernel_sizes", inner_kernel_sizes, [10 * s + 1 for s in scales])
        strides = inner("strides", strides, scales)
        paddings = inner("paddings", paddings, [(kernel - 1) // 2 for kernel in kernels])
        widths = [filters]  # after each of the first and the inner convolutions
        for scale in scales:
            widths.append(min(widths[-1] * scale, max_filters))
        groups = inner("groups", groups, [max(width // 4, 1) for width in widths[:-1]])

        self.in_channels = in_channels
        self.activation = build_activation(activation, activation_params)
        self.convs = nn.ModuleList(
            [
                nn.Sequential(
                    _build_pad(pad, (first * last - 1) // 2, pad_params),
                    NormConv1d(in_channels, filters, first * last, norm=norm),
                )
            ]
        )
        for i in range(len(scales)):
            if widths[i] % groups[i] or widths[i + 1] % groups[i]:
                raise ValueError(
                    f"groups: layer {i + 1} goes from {widths[i]} to {widths[i + 1]} filters, "
                    f"which {groups[i]} groups do not divide; max_filters and downsample_scales "
                    "widen layers."
                )
            self.convs.append(
                NormConv1d(
                    widths[i],
                    widths[i + 1],
                    kernels[i],
                    strides[i],
                    groups=groups[i],
                    padding=paddings[i],
                    norm=norm,
                )
            )
        wider = min(widths[-1] * 2, max_filters)
        self.convs.append(NormConv1d(widths[-1], wider, first, padding=first // 2, norm=norm))
        self.conv_post = NormConv1d(wider, out_channels, last, padding=last // 2, norm=norm)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        check_waveform(x, self.in_channels)
        fmap = []
        for conv in self.convs:
            x = self.activation(conv(x))
            fmap.append(x)
        logits = self.conv_post(x)
        return logits, [*fmap, logits]


def _build_pad(name: str, size: int, params: Mapping[str, Any] | None) -> nn.Module:
    if name not in PADS:
        raise unknown_name("pad", name, PADS)
    try:
        return PADS[name](size, **(params or {}))
    except TypeError as error:
        raise ValueError(f"pad_params {params} do not fit {name}: {error}") from error


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
        super().__init__()
        if isinstance(scale_norms, str) or not scale_norms:
            raise ValueError(f"scale_norms must be a list of norms, got {scale_norms!r}.")
        for norm in scale_norms:
            if norm not in CONV_NORMALIZATIONS:
                raise unknown_name("norm in scale_norms", norm, CONV_NORMALIZATIONS)
        self.discriminators = nn.ModuleList(
            ScaleDiscriminator(in_channels, out_channels, norm=norm, **kwargs)
            for norm in scale_norms
        )
        check_positive(downsample_factor=downsample_factor)
        factor = downsample_factor
        self.downsample = nn.AvgPool1d(2 * factor, factor, padding=factor)

    @property
    def names(self) -> list[str]:
        return [f"scale{index + 1}" for index in range(self.num_discriminators)]

    def preprocess(self, index: int, x: Tensor) -> Tensor:
        """Return `x` [B, C, T] pooled `index` times."""
        for _ in range(index):
            x = self.downsample(x)
        return x
