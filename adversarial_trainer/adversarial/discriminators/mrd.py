"""Multi-Resolution Discriminators: convolutions over bands of several STFTs (DAC, arXiv 2306.06546,
section 3.4), or over their magnitudes (UnivNet, arXiv 2106.07889, section 2.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adversarial_trainer.adversarial.discriminators.base import (
    MultiDiscriminator,
    SubDiscriminator,
)
from adversarial_trainer.modules.checks import check_lists, check_sizes
from adversarial_trainer.modules.conv import pad1d
from adversarial_trainer.modules.norm import NormConv2d
from adversarial_trainer.modules.spectral import stft
from adversarial_trainer.registry import register, unknown_name

PADDINGS = ("same", "center")
BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
STRIDES = ((1, 1), (1, 2), (1, 2), (1, 2))


class ResolutionDiscriminator(SubDiscriminator):
    """Convolutions over the bands of one STFT, each band with weights of its own, then one over
    their outputs side by side.

    Pairs are (frames, bins).

    Args: see `SubDiscriminator`, and
        n_fft: FFT size and length of the Hann window, in samples.
        hop_factor: Step between frames as a share of `n_fft`.
        bands: (low, high) of each band as shares of the spectrum, 0 <= low < high <= 1.
        magnitude: Judge magnitudes instead of real and imaginary parts.
        padding: 'same' for a frame centred in every hop (DAC's `match_stride`), ceil(T / hop)
            frames; 'center' for a frame centred at every multiple of hop, T // hop + 1 (Vocos,
            BigCodec). Both reflect at the ends, an input that is too short after zeros.
        strides: Of the convolutions of a band but the last, one each.
        kernel_sizes: Of these convolutions, and of the last of a band and the one after the bands.
        filters, filters_scale, max_filters: Convolution i of a band (from 0) has
            min(filters * filters_scale^i, max_filters) filters.

    Shape:
        - input: [B, in_channels, T]
        - logits: [B, out_channels, frames', bins'], the bands one after the other
        - feature maps: len(strides) + 1 activations of each band, then the logits
    """

    window: Tensor

    def __init__(
        self,
        n_fft: int,
        in_channels: int = 1,
        out_channels: int = 1,
        hop_factor: float = 0.25,
        bands: Sequence[Sequence[float]] = BANDS,
        magnitude: bool = False,
        padding: str = "same",
        filters: int = 32,
        filters_scale: int = 1,
        max_filters: int = 1024,
        kernel_sizes: Sequence[Sequence[int]] = ((3, 9), (3, 3)),
        strides: Sequence[Sequence[int]] = STRIDES,
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: Mapping[str, Any] | None = None,
        normalize_input: bool = False,
    ):
        super().__init__(in_channels, out_channels, activation, activation_params, normalize_input)
        check_sizes(n_fft=n_fft, filters=filters)
        check_sizes(filters_scale=filters_scale, max_filters=max_filters)
        if len(kernel_sizes) != 2:
            raise ValueError(f"kernel_sizes must be two (frames, bins), got {kernel_sizes!r}.")
        for kernel in kernel_sizes:
            check_lists(2, kernel_sizes=kernel)
        for stride in strides:
            check_lists(2, strides=stride)
        if not 1 <= n_fft * hop_factor <= n_fft:
            raise ValueError(f"hop_factor must be in [1 / {n_fft}, 1], got {hop_factor!r}.")
        if padding not in PADDINGS:
            raise unknown_name("padding", padding, PADDINGS)
        self.n_fft = n_fft
        self.hop_length = int(n_fft * hop_factor)
        self.bands = [band_of_bins(band, n_fft // 2 + 1) for band in bands]
        if not self.bands:
            raise ValueError("bands must be a list of (low, high), got none.")
        self.magnitude = magnitude
        self.padding = padding
        window = torch.hann_window(n_fft, dtype=torch.float64).float()
        self.register_buffer("window", window, persistent=False)

        def conv(inputs: int, outputs: int, kernel: Sequence[int], **kwargs: Any) -> NormConv2d:
            around = tuple((size - 1) // 2 for size in kernel)
            return NormConv2d(inputs, outputs, tuple(kernel), padding=around, norm=norm, **kwargs)

        inner, last = kernel_sizes
        scales = [filters_scale**i for i in range(len(strides) + 1)]
        widths = [min(filters * scale, max_filters) for scale in scales]
        inputs = [in_channels if magnitude else 2 * in_channels, *widths]
        self.band_convs = nn.ModuleList()
        for _ in self.bands:
            convs = [
                conv(inputs[i], widths[i], inner, stride=tuple(stride))
                for i, stride in enumerate(strides)
            ]
            self.band_convs.append(nn.ModuleList([*convs, conv(inputs[-2], widths[-1], last)]))
        self.conv_post = conv(widths[-1], out_channels, last)

    def represent(self, x: Tensor) -> Tensor:
        """Return the STFT of `x` [B, C, T]: magnitudes [B, C, frames, bins], or [B, 2 C, frames,
        bins] with all real parts before all imaginary ones. In float32 under autocast too, in
        float64 for float64 input."""
        padded = pad1d(x, self._paddings_of(x.shape[-1]), "reflect")
        z = stft(padded, self.hop_length, self.window, self.n_fft)
        z = torch.view_as_real(z.transpose(2, 3))
        if self.magnitude:  # of at least 3e-4, as the root of 0 has no gradient (BigCodec)
            return z.square().sum(-1).clamp_min(1e-7).sqrt()
        return z.movedim(-1, 1).flatten(1, 2)

    def _paddings_of(self, length: int) -> tuple[int, int]:
        if self.padding == "center":
            return self.n_fft // 2, self.n_fft // 2
        overlap = self.n_fft - self.hop_length
        missing = math.ceil(length / self.hop_length) * self.hop_length - length
        return overlap // 2, overlap - overlap // 2 + missing

    def judge(self, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        fmap, outputs = [], []
        for (low, high), convs in zip(self.bands, self.band_convs, strict=True):
            band = z[..., low:high]
            for conv in convs.children():
                band = self.activation(conv(band))
                fmap.append(band)
            outputs.append(band)
        logits = self.conv_post(torch.cat(outputs, dim=-1))
        return logits, [*fmap, logits]


def band_of_bins(band: Sequence[float], bins: int) -> tuple[int, int]:
    """Return the first bin of `band` (low, high) and the one after its last, rounded down."""
    match band:
        case [int() | float() as low, int() | float() as high] if 0 <= low < high <= 1:
            if int(low * bins) < int(high * bins):
                return int(low * bins), int(high * bins)
    raise ValueError(
        f"bands: each must be (low, high), 0 <= low < high <= 1, with one of {bins} bins or more, "
        f"got {band!r}."
    )


@register("discriminator", "mrd")
class MultiResolutionDiscriminator(MultiDiscriminator):
    """Multi-Resolution Discriminator (MRD). The defaults are DAC's layers (descript-audio-codec,
    dac/model/discriminator.py), whose LeakyReLU has a slope of 0.1 and whose input is normalized.

    Args:
        in_channels, out_channels: Channels of the audio and of the logits.
        n_ffts: STFT of each sub-discriminator, in samples.
        kwargs: Other arguments of `ResolutionDiscriminator`, for all sub-discriminators.
    """

    kwargs_of = ResolutionDiscriminator
    kwargs_set = ("n_fft",)

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        n_ffts: Sequence[int] = (2048, 1024, 512),
        **kwargs: Any,
    ):
        check_lists(n_ffts=n_ffts)
        super().__init__(
            (ResolutionDiscriminator(n, in_channels, out_channels, **kwargs) for n in n_ffts),
            (f"fft{n}" for n in n_ffts),
        )
