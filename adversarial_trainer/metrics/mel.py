"""Multi-scale mel distance of the Descript Audio Codec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from torch import Tensor, nn

from adversarial_trainer.modules.spectral import MelSpectrogram
from adversarial_trainer.registry import register

from .base import Metric


class MagnitudeDistance(Metric):
    """L1 of magnitudes and of their log10, summed over spectra of several resolutions.

    Args:
        spectra: modules that give magnitudes, `[B, C, T] -> [B, C, F, N]`.
        clamp_eps: lower clamp of magnitudes before the logarithm.
        mag_weight, log_weight: weights of the L1 of magnitudes and of their logarithms.
        power: exponent of the clamped magnitudes before the logarithm.
    """

    higher_is_better = False

    def __init__(
        self,
        spectra: Iterable[nn.Module],
        clamp_eps: float,
        mag_weight: float,
        log_weight: float,
        power: float,
    ) -> None:
        super().__init__()
        self.spectra = nn.ModuleList(spectra)
        self.clamp_eps = clamp_eps
        self.mag_weight = mag_weight
        self.log_weight = log_weight
        self.power = power

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        total = real.new_zeros(real.shape[0])
        for spectrum in self.spectra:
            mags = spectrum(fake), spectrum(real)
            logs = [self.power * mag.clamp_min(self.clamp_eps).log10() for mag in mags]
            distance = self.log_weight * (logs[0] - logs[1]).abs()
            distance += self.mag_weight * (mags[0] - mags[1]).abs()
            total = total + distance.flatten(1).mean(1)
        return total


@register("metric", "mel")
class MelDistance(MagnitudeDistance):
    """L1 of log10 mel magnitudes, summed over window lengths (DAC, arXiv 2306.06546).

    Constants are those of DAC's evaluation (`conf/base.yml` and `dac/nn/loss.py`): Hann windows
    with hops of a quarter, centred frames, Slaney mel filters with area normalisation from 0 Hz to
    sample_rate / 2, magnitudes clamped from below at 1e-5, only the logarithmic term, exponent 1.
    DAC evaluates at 44.1 and 22.05 kHz: compare numbers at one rate. (At 48 kHz, DAC's own filters
    are empty in one row of windows 32 and 64; here they are not.)

    Args:
        sample_rate: in Hz.
        n_mels: number of filters for each window.
        window_lengths: in samples.
        clamp_eps, mag_weight, log_weight, power: see `MagnitudeDistance`.
    """

    title = "Mel distance"
    unit = "log10"

    def __init__(
        self,
        sample_rate: int,
        n_mels: Sequence[int] = (5, 10, 20, 40, 80, 160, 320),
        window_lengths: Sequence[int] = (32, 64, 128, 256, 512, 1024, 2048),
        clamp_eps: float = 1e-5,
        mag_weight: float = 0.0,
        log_weight: float = 1.0,
        power: float = 1.0,
    ) -> None:
        if len(n_mels) != len(window_lengths):
            raise ValueError(
                "n_mels and window_lengths need one entry for each scale, got "
                f"{list(n_mels)} and {list(window_lengths)}."
            )
        mel = partial(MelSpectrogram, sample_rate, power=1, scale="slaney", area_norm=True)
        spectra = [
            mel(length, length // 4, n_mels=count)
            for count, length in zip(n_mels, window_lengths, strict=True)
        ]
        super().__init__(spectra, clamp_eps, mag_weight, log_weight, power)
