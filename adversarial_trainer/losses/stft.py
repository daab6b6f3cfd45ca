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
from adversarial_trainer.modules.weighting import AWeighting
from adversarial_trainer.registry import register

EPSILON = float(torch.finfo(torch.float32).eps)
POWER_FLOOR = 1e-7  # Parallel WaveGAN's


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
        floor: least power of a spectrum's entry, which bounds the logarithm's slope.
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
        floor: float = POWER_FLOOR,
    ) -> None:
        super().__init__()
        if not floor > 0:
            raise ValueError(f"floor must be > 0, got {floor}.")
        self.floor = floor
        self.factor_sc = factor_sc
        self.factor_mag = factor_mag
        self.epsilon = epsilon
        self.per_item = per_item
        self.power = Spectrogram(
            n_fft, hop_length, win_length, window, normalize="frame" if normalized else None
        )

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        fake_mag = self.power(fake).clamp_min(self.floor).sqrt()
        real_mag = self.power(real).clamp_min(self.floor).sqrt()
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
    """Mean of `STFTLoss` over resolutions; the three sequences have one entry for each.

    Args:
        a_weighting: weight the frequencies as the ear does first (auraloss' perceptual_weighting).
        sample_rate: in Hz, for `a_weighting`.
    """

    title = "multi-resolution STFT loss"

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
        floor: float = POWER_FLOOR,
        a_weighting: bool = False,
        sample_rate: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 < len(n_ffts) == len(hop_lengths) == len(win_lengths):
            raise ValueError(
                "n_ffts, hop_lengths and win_lengths need one entry for each resolution, got "
                f"{list(n_ffts)}, {list(hop_lengths)} and {list(win_lengths)}."
            )
        if a_weighting and sample_rate is None:
            raise ValueError("a_weighting needs a sample_rate.")
        self.weighting = AWeighting(sample_rate) if a_weighting and sample_rate else None
        self.losses = nn.ModuleList(
            STFTLoss(
                n_fft, hop, win, window, normalized, factor_sc, factor_mag, epsilon, per_item, floor
            )
            for n_fft, hop, win in zip(n_ffts, hop_lengths, win_lengths, strict=True)
        )  # fmt: skip

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        if self.weighting is not None:
            check_pair(fake, real)
            fake, real = self.weighting(fake), self.weighting(real)
        return torch.stack([loss(fake, real) for loss in self.losses]).mean()


@register("loss", "stereo_stft")
class StereoSTFTLoss(MRSTFTLoss):
    """(sum + difference) / 2 + (left + right) / 2, each the `MRSTFTLoss` of that signal by itself.

    The sum and the difference of the channels hold the stereo image (Steinmetz et al., arXiv
    2010.10291); stable-audio-tools (training/autoencoders.py) adds the channels at half the weight.
    It exchanges the two signals, so its spectral convergence is relative to the reconstruction;
    here it is relative to `real`. Mono audio has the `MRSTFTLoss` alone.
    """

    title = "stereo STFT loss"

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        if fake.shape[1] == 1:
            return super().forward(fake, real)
        if fake.shape[1] != 2:
            raise ValueError(f"stereo_stft is for 1 or 2 channels, got {fake.shape[1]}.")
        total = fake.new_zeros(())
        for signals in zip(_stereo_signals(fake), _stereo_signals(real), strict=True):
            total = total + super().forward(*signals)
        return total / 2


def _stereo_signals(x: Tensor) -> tuple[Tensor, ...]:
    """Left, right, their sum and their difference of `[B, 2, T]`, each `[B, 1, T]`."""
    left, right = x[:, :1], x[:, 1:]
    return left, right, left + right, left - right
