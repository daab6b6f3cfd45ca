"""Mel loss of DAC and its descendants: log magnitudes, a number of mels for each window."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adversarial_trainer.modules.spectral import MelScale, MelSpectrogram, check_pair
from adversarial_trainer.registry import register


@register("loss", "msmel")
class MultiResolutionMelLoss(nn.Module):
    """L1 distance of log mel magnitude spectra, summed over resolutions.

    log_weight sum_i mean |L(S_i(x)) - L(S_i(y))|, where L(S) = log10(max(S, clamp_eps)), and S_i is
    a mel magnitude spectrum with periodic Hann windows, hops of a quarter of them and reflected
    ends. Called as `loss(fake, real)` on `[B, C, T]`; it returns a scalar and is symmetric.

    The defaults are DAC's loss (descript-audio-codec conf/final, audiotools metrics/spectral.py,
    whose `pow` is a factor of `log_weight`). Others: one window of 1024 with 100 'htk' mels without
    area_norm, clamp_eps 1e-7 and natural logarithms is Vocos' (vocos/loss.py). Filters at small
    windows are never empty (see `mel_filterbank`), as they would be with DAC's mels at 48 kHz: one
    of 5 at window 32, one of 10 at 64. At 44.1 kHz and below, DAC's have none.

    Args:
        sample_rate: in Hz.
        n_mels: number of mel filters of each resolution, between f_min and f_max (Hz; None is
            sample_rate / 2).
        win_lengths: window length of each resolution in samples, a multiple of 4.
        mel_scale: 'slaney' or 'htk'.
        area_norm: divide each filter by half its width in Hz (librosa's norm='slaney').
        clamp_eps: smallest magnitude in the logarithm.
        log_weight: factor; 2.302585 for natural logarithms.
    """

    title = "multi-resolution mel loss"

    def __init__(
        self,
        sample_rate: int,
        n_mels: Sequence[int] = (5, 10, 20, 40, 80, 160, 320),
        win_lengths: Sequence[int] = (32, 64, 128, 256, 512, 1024, 2048),
        f_min: float = 0.0,
        f_max: float | None = None,
        mel_scale: MelScale = "slaney",
        area_norm: bool = True,
        clamp_eps: float = 1e-5,
        log_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < len(n_mels) == len(win_lengths):
            raise ValueError(
                "n_mels and win_lengths need one entry for each resolution, got "
                f"{list(n_mels)} and {list(win_lengths)}."
            )
        if wrong := [size for size in win_lengths if size < 4 or size % 4]:
            raise ValueError(f"win_lengths must be multiples of 4, got {wrong}.")
        if not clamp_eps > 0:
            raise ValueError(f"clamp_eps must be > 0, got {clamp_eps}.")
        self.clamp_eps = clamp_eps
        self.log_weight = log_weight
        self.mels = nn.ModuleList(
            MelSpectrogram(
                sample_rate, size, size // 4, size, count, f_min, f_max,
                power=1, scale=mel_scale, area_norm=area_norm,
            )
            for count, size in zip(n_mels, win_lengths, strict=True)
        )  # fmt: skip

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        terms = [F.l1_loss(self._log(mel(fake)), self._log(mel(real))) for mel in self.mels]
        return self.log_weight * torch.stack(terms).sum()

    def _log(self, mel: Tensor) -> Tensor:
        return torch.log10(mel.clamp_min(self.clamp_eps))
