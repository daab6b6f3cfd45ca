"""Mel losses, named and parametrised as in AudioCraft's `losses/specloss.py`.

Called as `loss(fake, real)` on `[B, C, T]`; they return a scalar and are symmetric in the two.
Defaults are those of AudioCraft's constructors, which its configuration and ours in loss/ override.
Unlike AudioCraft's, filters at small FFT sizes are never empty: see `mel_filterbank`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adversarial_trainer.modules.spectral import MelSpectrogram, check_pair
from adversarial_trainer.registry import register


@register("loss", "mel")
class MelSpectrogramL1Loss(nn.Module):
    """Mean absolute difference of (log10) mel power spectra.

    Args:
        sample_rate: in Hz.
        n_fft, hop_length, win_length: in samples.
        n_mels: number of mel filters between f_min and f_max (Hz; None is sample_rate / 2).
        log: compare log10(floor_level + mel) instead of mel.
        normalized: divide the spectra by the window's L2 norm.
        floor_level: power added before the logarithm.
    """

    title = "mel spectrogram loss"

    def __init__(
        self,
        sample_rate: int,
        n_fft: int = 1024,
        hop_length: int = 256,
        win_length: int = 1024,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float | None = None,
        log: bool = True,
        normalized: bool = False,
        floor_level: float = 1e-5,
    ) -> None:
        super().__init__()
        self.log = log
        self.floor_level = floor_level
        self.mel = MelSpectrogram(
            sample_rate, n_fft, hop_length, win_length, n_mels, f_min, f_max,
            padding="same", normalize="window" if normalized else None,
        )  # fmt: skip

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        fake_mel, real_mel = self.mel(fake), self.mel(real)
        if self.log:
            fake_mel = torch.log10(self.floor_level + fake_mel)
            real_mel = torch.log10(self.floor_level + real_mel)
        return F.l1_loss(fake_mel, real_mel)


@register("loss", "msspec")
class MultiScaleMelSpectrogramLoss(nn.Module):
    """EnCodec's reconstruction loss in the frequency domain ('msspec').

    sum_i ||S_i(x) - S_i(y)||_1 + alpha_i ||log10 S_i(x) - log10 S_i(y)||_2^2 with S_i a mel power
    spectrum with windows of 2^i samples and hops of 2^i / 4 (arXiv 2210.13438, section 3.4; both
    norms are means over elements). Each S_i is computed once and used by both terms.

    Args:
        sample_rate: in Hz.
        range_start, range_end: i runs over range(range_start, range_end).
        n_mels: number of mel filters between f_min and f_max (Hz; None is sample_rate / 2).
        normalized: divide the spectra by the window's L2 norm, and the loss by
            sum_i (1 + alpha_i).
        alphas: alpha_i = sqrt(2^i - 1) as in AudioCraft; False is 1, the paper's choice.
        floor_level: power added before the logarithm.
    """

    title = "multi-scale mel spectrogram loss"

    def __init__(
        self,
        sample_rate: int,
        range_start: int = 6,
        range_end: int = 11,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        normalized: bool = False,
        alphas: bool = True,
        floor_level: float = 1e-5,
    ) -> None:
        super().__init__()
        if not 2 <= range_start < range_end <= 17:
            raise ValueError(
                "msspec needs 2 <= range_start < range_end <= 17, got "
                f"range_start={range_start}, range_end={range_end}."
            )
        sizes = [2**i for i in range(range_start, range_end)]
        self.floor_level = floor_level
        self.alphas = [math.sqrt(size - 1) if alphas else 1.0 for size in sizes]
        self.total = sum(1.0 + alpha for alpha in self.alphas) if normalized else 1.0
        self.mels = nn.ModuleList(
            MelSpectrogram(
                sample_rate, size, size // 4, size, n_mels, f_min, f_max,
                padding="same", normalize="window" if normalized else None,
            )
            for size in sizes
        )  # fmt: skip

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        terms = []
        for mel, alpha in zip(self.mels, self.alphas, strict=True):
            fake_mel, real_mel = mel(fake), mel(real)
            fake_log = torch.log10(self.floor_level + fake_mel)
            real_log = torch.log10(self.floor_level + real_mel)
            terms.append(F.l1_loss(fake_mel, real_mel) + alpha * F.mse_loss(fake_log, real_log))
        return torch.stack(terms).sum() / self.total
