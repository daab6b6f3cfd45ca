"""Multi-Scale STFT Discriminator (EnCodec, arXiv 2210.13438, section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from adversarial_trainer.adversarial.discriminators.base import (
    MultiDiscriminator,
    SubDiscriminator,
)
from adversarial_trainer.modules.checks import check_lists, check_sizes
from adversarial_trainer.modules.norm import NormConv2d
from adversarial_trainer.modules.spectral import no_autocast
from adversarial_trainer.registry import register


class SpectrumDiscriminator(SubDiscriminator):
    """Convolutions over a complex spectrum [B, 2 C, frames, bins], all real parts before all
    imaginary ones, which a subclass gives in `represent`.

    As in the published `encodec` package, so that weights are interchangeable, the first
    convolution has no normalization, and the feature maps do not include the logits (the other
    families' do).

    Args: see `SubDiscriminator`, and
        filters_scale: Convolution i (from 1, after the first) has
            min(filters * filters_scale^i, max_filters) filters.
        kernel_size: (frames, bins), odd for any T; the last two are (frames, frames).
        dilations: Dilation in frames, one inner convolution each.
        stride: (frames, bins) of the inner convolutions.

    Shape:
        - input: [B, in_channels, T]
        - logits: [B, out_channels, frames', bins']
        - feature maps: len(dilations) + 2 activations
    """

    def __init__(
        self,
        filters: int,
        in_channels: int = 1,
        out_channels: int = 1,
        max_filters: int = 1024,
        filters_scale: int = 1,
        kernel_size: Sequence[int] = (3, 9),
        dilations: Sequence[int] = (1, 2, 4),
        stride: Sequence[int] = (1, 2),
        norm: str = "weight_norm",
        activation: str = "LeakyReLU",
        activation_params: Mapping[str, Any] | None = None,
        normalize_input: bool = False,
    ):
        super().__init__(in_channels, out_channels, activation, activation_params, normalize_input)
        check_lists(2, kernel_size=kernel_size, stride=stride)
        check_sizes(filters=filters, max_filters=max_filters, filters_scale=filters_scale)
        check_lists(dilations=dilations)
        self.kernel_size = frames, bins = tuple(kernel_size)

        def conv(
            inputs: int, outputs: int, width: int, dilation: int = 1, **kwargs: Any
        ) -> nn.Module:
            kwargs = {"norm": norm, "dilation": (dilation, 1), **kwargs}
            padding = ((frames - 1) * dilation // 2, (width - 1) // 2)
            return NormConv2d(inputs, outputs, (frames, width), padding=padding, **kwargs)

        count = len(dilations)
        scales = [filters_scale ** (i + 1) for i in range(count + 1)]
        widths = [filters, *(min(filters * scale, max_filters) for scale in scales)]
        self.convs = nn.ModuleList([conv(2 * in_channels, filters, bins, norm="none")])
        for i, dilation in enumerate(dilations):
            self.convs.append(conv(widths[i], widths[i + 1], bins, dilation, stride=stride))
        self.convs.append(conv(widths[count], widths[count + 1], frames))
        self.conv_post = conv(widths[count + 1], out_channels, frames)

    def judge(self, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        if self.kernel_size == (1, 1):
            # With channels innermost, as z has them, a strided 1x1 convolution writes beyond its
            # memory in oneDNN's backward (torch 2.11).
            z = z.contiguous()
        logits, fmap = super().judge(z)
        return logits, fmap[:-1]


class DiscriminatorSTFT(SpectrumDiscriminator):
    """Convolutions over a complex spectrogram.

    Args: see `SpectrumDiscriminator`, and
        n_fft, hop_length, win_length: STFT, in samples; audio shorter than n_fft gets zeros on
            both sides.
        normalized: Divide the STFT by the window's root energy.
    """

    kwargs_of = SpectrumDiscriminator
    kwargs_set = ("normalize_input",)

    def __init__(
        self,
        filters: int,
        in_channels: int = 1,
        out_channels: int = 1,
        n_fft: int = 1024,
        hop_length: int = 256,
        win_length: int = 1024,
        normalized: bool = True,
        **kwargs: Any,
    ):
        super().__init__(filters, in_channels, out_channels, **kwargs)
        check_sizes(n_fft=n_fft, hop_length=hop_length, win_length=win_length)
        if win_length > n_fft:
            raise ValueError(f"win_length must be at most n_fft={n_fft}, got {win_length}.")
        self.n_fft = n_fft
        self.spec_transform = torchaudio.transforms.Spectrogram(
            n_fft, win_length, hop_length, power=None, normalized=normalized, center=False
        )

    def represent(self, x: Tensor) -> Tensor:
        # In the precision of the window, float32 or float64, under autocast too.
        missing = max(self.n_fft - x.shape[-1], 0)
        with no_autocast(x):
            x = x.to(self.spec_transform.window.dtype)
            # On both sides, as the window is near zero at its edges.
            z = self.spec_transform(F.pad(x, (missing // 2, missing - missing // 2)))
        return torch.view_as_real(z).permute(0, 4, 1, 3, 2).flatten(1, 2)


@register("discriminator", "msstftd")
class MultiScaleSTFTDiscriminator(MultiDiscriminator):
    """Multi-Scale STFT (MS-STFT) discriminator. With equal weights it equals the published
    `encodec.msstftd`, whose state dict it loads; see `DiscriminatorSTFT` on what that means for
    norms and feature maps.

    Args:
        filters: Filters of the first convolution.
        in_channels, out_channels: Channels of the audio and of the logits.
        sep_channels: Separate channels to distinct samples: audio [B, C, T] is judged as B * C
            mono items (item b * C + c is channel c of item b). The convolutions then hear one
            channel whatever `in_channels` says, and any number of channels is accepted.
        n_ffts, hop_lengths, win_lengths: STFT of each sub-discriminator, in samples.
        kwargs: Other arguments of `DiscriminatorSTFT`, for all sub-discriminators.
    """

    kwargs_of = DiscriminatorSTFT
    kwargs_set = ("n_fft", "hop_length", "win_length")

    def __init__(
        self,
        filters: int,
        in_channels: int = 1,
        out_channels: int = 1,
        sep_channels: bool = False,
        n_ffts: Sequence[int] = (1024, 2048, 512),
        hop_lengths: Sequence[int] = (256, 512, 128),
        win_lengths: Sequence[int] = (1024, 2048, 512),
        **kwargs: Any,
    ):
        check_lists(n_ffts=n_ffts)
        check_lists(len(n_ffts), hop_lengths=hop_lengths, win_lengths=win_lengths)
        heard = 1 if sep_channels else in_channels
        sizes = zip(n_ffts, hop_lengths, win_lengths, strict=True)
        super().__init__(
            (DiscriminatorSTFT(filters, heard, out_channels, *stft, **kwargs) for stft in sizes),
            (f"fft{n_fft}" for n_fft in n_ffts),
        )
        self.sep_channels = sep_channels

    def preprocess(self, index: int, x: Tensor) -> Tensor:
        """Return `x` [B, C, T] as [B * C, 1, T] with `sep_channels`, else as it is."""
        return x.flatten(0, 1).unsqueeze(1) if self.sep_channels else x
