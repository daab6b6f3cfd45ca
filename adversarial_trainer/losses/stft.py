"""STFT magnitude losses of Parallel WaveGAN (Yamamoto et al., arXiv 1910.11480, eq. 4 to 6).

Names and parameters as in AudioCraft's `losses/stftloss.py`. Called as `loss(fake, real)` on
`[B, C, T]`, returning a scalar. The order matters: spectral convergence is relative to `real`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adversarial_trainer.modules.spectral import Spectrogram, check_pair
from adversarial_trainer.registry import register

EPSILON = float(torch.finfo(torch.float32).eps)
# Magnitudes are sqrt(max(power, POWER_FLOOR)), Parallel WaveGAN's bound on the logarithm's slope.
POWER_FLOOR = 1e-7


class STFTLoss(nn.Module):
    """factor_sc * spectral convergence + factor_mag * L1 of the natural log magnitudes.

    Spectral convergence is ||R - F|| / ||R|| with Frobenius norms.

    Args:
        n_fft, hop_length, win_length: in samples.
        window: name of torch's window function.
        normalized: divide the spectra by sqrt(n_fft).
        epsilon: added to the reference's norm and inside the logarithm.
        per_item: norms are of one item each, and the mean is taken over items, as in the paper.
            False: of the whole batch, as in AudioCraft, which makes the loss of an item depend on
            its neighbours and on the number of ranks.
    """

    def __init__(
        self,
        n_fft: int = 1024,
        hop_length: int = 120,
        win_length: int = 600,
        window: str = "hann_window",
        normalized: bool = False,
        factor_sc: float = 0.1,
        factor_mag: float = 0.1,
        epsilon: float = EPSILON,
        per_item: bool = False,
    ) -> None:
        super().__init__()
        self.factor_sc = factor_sc
        self.factor_mag = factor_mag
        self.epsilon = epsilon
        self.per_item = per_item
        self.power = Spectrogram(
            n_fft, hop_length, win_length, window, normalize="frame" if normalized else None
        )

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        fake_mag = self.power(fake).clamp_min(POWER_FLOOR).sqrt()
        real_mag = self.power(real).clamp_min(POWER_FLOOR).sqrt()
        dims = (-3, -2, -1) if self.per_item else (-4, -3, -2, -1)  # of [B, C, F, N]
        error = torch.linalg.vector_norm(real_mag - fake_mag, dim=dims)
        size = torch.linalg.vector_norm(real_mag, dim=dims)
        convergence = (error / (size + self.epsilon)).mean()
        log_error = F.l1_loss(
            torch.log(self.epsilon + fake_mag), torch.log(self.epsilon + real_mag)
        )
        return self.factor_sc * convergence + self.factor_mag * log_error


@register("loss", "mrstft")
class MRSTFTLoss(nn.Module):
    """Mean of `STFTLoss` over resolutions; the three sequences have one entry for each."""

    title = "multi-resolution STFT loss"
    unit = ""
    higher_is_better = False

    def __init__(
        self,
        n_ffts: Sequence[int] = (1024, 2048, 512),
        hop_lengths: Sequence[int] = (120, 240, 50),
        win_lengths: Sequence[int] = (600, 1200, 240),
        window: str = "hann_window",
        factor_sc: float = 0.1,
        factor_mag: float = 0.1,
        normalized: bool = False,
        epsilon: float = EPSILON,
        per_item: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < len(n_ffts) == len(hop_lengths) == len(win_lengths):
            raise ValueError(
                "n_ffts, hop_lengths and win_lengths need one entry for each resolution, got "
                f"{list(n_ffts)}, {list(hop_lengths)} and {list(win_lengths)}."
            )
        self.losses = nn.ModuleList(
            STFTLoss(n_fft, hop, win, window, normalized, factor_sc, factor_mag, epsilon, per_item)
            for n_fft, hop, win in zip(n_ffts, hop_lengths, win_lengths, strict=True)
        )

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        return torch.stack([loss(fake, real) for loss in self.losses]).mean()
