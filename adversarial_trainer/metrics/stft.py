"""Multi-resolution STFT distance of the Descript Audio Codec."""

from __future__ import annotations

from collections.abc import Sequence

from adversarial_trainer.modules.spectral import Spectrogram
from adversarial_trainer.registry import register

from .mel import MagnitudeDistance


@register("metric", "stft")
class STFTDistance(MagnitudeDistance):
    """L1 of STFT magnitudes plus L1 of their log10 squares, summed over window lengths.

    Constants are those of DAC's evaluation (`MultiScaleSTFTLoss` in `dac/nn/loss.py`): Hann
    windows of 2048 and 512 samples, hops of a quarter, centred frames, magnitudes clamped from
    below at 1e-5, exponent 2, both terms with weight 1. The magnitude term grows with the level.

    Args:
        window_lengths: in samples.
        clamp_eps, mag_weight, log_weight, power: see `MagnitudeDistance`.
    """

    title = "STFT distance"
    unit = "log10 + magnitude"

    def __init__(
        self,
        window_lengths: Sequence[int] = (2048, 512),
        clamp_eps: float = 1e-5,
        mag_weight: float = 1.0,
        log_weight: float = 1.0,
        power: float = 2.0,
    ) -> None:
        spectra = [Spectrogram(length, length // 4, power=1) for length in window_lengths]
        super().__init__(spectra, clamp_eps, mag_weight, log_weight, power)
