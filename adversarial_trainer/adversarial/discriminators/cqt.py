"""Multi-Scale Sub-Band CQT Discriminator (Gu et al., arXiv 2311.14957)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from adversarial_trainer.adversarial.discriminators.base import MultiDiscriminator
from adversarial_trainer.adversarial.discriminators.msstftd import SpectrumDiscriminator
from adversarial_trainer.modules.checks import check_lists, check_sizes
from adversarial_trainer.modules.cqt import CQT
from adversarial_trainer.modules.norm import NormConv2d
from adversarial_trainer.modules.spectral import no_autocast
from adversarial_trainer.registry import register


class DiscriminatorCQT(SpectrumDiscriminator):
    """Convolutions over a complex constant-Q transform: one without norm and activation for each
    octave, then those of `SpectrumDiscriminator` over all octaves.

    Args: see `SpectrumDiscriminator`, and
        sample_rate: Of the audio, in Hz; the transform is at twice that.
        hop_length, bins_per_octave, n_octaves, fmin: See `modules.cqt.CQT`.

    Shape: as there, with max(2 T, 2^(n_octaves - 1)) // hop_length + 1 frames.
    """

    kwargs_of = SpectrumDiscriminator

    def __init__(
        self,
        sample_rate: int,
        filters: int,
        in_channels: int = 1,
        out_channels: int = 1,
        hop_length: int = 256,
        bins_per_octave: int = 24,
        n_octaves: int = 9,
        fmin: float = 32.7,
        **kwargs: Any,
    ):
        super().__init__(filters, in_channels, out_channels, **kwargs)
        check_sizes(hop_length=hop_length, n_octaves=n_octaves, bins_per_octave=bins_per_octave)
        self.cqt = CQT(2 * sample_rate, hop_length, n_octaves, bins_per_octave, fmin)
        frames, bins = self.kernel_size
        padding = ((frames - 1) // 2, (bins - 1) // 2)
        width = 2 * in_channels
        self.conv_pres = nn.ModuleList(
            NormConv2d(width, width, (frames, bins), padding=padding) for _ in range(n_octaves)
        )

    def represent(self, x: Tensor) -> Tensor:
        with no_autocast(x):
            x = x if x.dtype == torch.float64 else x.float()
            z = self.cqt(resample(x, 1, 2))  # [B, C, bins, frames, 2]
        octaves = z.permute(0, 4, 1, 3, 2).flatten(1, 2).chunk(len(self.conv_pres), dim=-1)
        convolved = [conv(z) for conv, z in zip(self.conv_pres, octaves, strict=True)]
        return torch.cat(convolved, dim=-1)


@register("discriminator", "cqt")
class MultiScaleSubbandCQTDiscriminator(MultiDiscriminator):
    """Multi-Scale Sub-Band CQT discriminator (MS-SB-CQT). Its layers are those of BigVGAN and
    Amphion (NVIDIA/BigVGAN, discriminators.py), whose LeakyReLU has a slope of 0.1.

    Args:
        sample_rate: Of the audio, in Hz.
        filters: Filters of the first convolution over all octaves.
        in_channels, out_channels: Channels of the audio and of the logits.
        hop_lengths, bins_per_octaves: CQT of each sub-discriminator, hops in samples at twice the
            sample rate.
        kwargs: Other arguments of `DiscriminatorCQT`, for all sub-discriminators.
    """

    kwargs_of = DiscriminatorCQT
    kwargs_set = ("hop_length", "bins_per_octave")

    def __init__(
        self,
        sample_rate: int,
        filters: int,
        in_channels: int = 1,
        out_channels: int = 1,
        hop_lengths: Sequence[int] = (512, 256, 256),
        bins_per_octaves: Sequence[int] = (24, 36, 48),
        **kwargs: Any,
    ):
        check_lists(hop_lengths=hop_lengths)
        check_lists(len(hop_lengths), bins_per_octaves=bins_per_octaves)
        super().__init__(
            (
                DiscriminatorCQT(sample_rate, filters, in_channels, out_channels, *sizes, **kwargs)
                for sizes in zip(hop_lengths, bins_per_octaves, strict=True)
            ),
            (f"bins{bins}" for bins in bins_per_octaves),
        )
