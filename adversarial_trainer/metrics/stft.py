"""Multi-resolution STFT distance of the Descript Audio Codec."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adversarial_trainer.modules.spectral import Spectrogram
from adversarial_trainer.registry import register

from .base import Metric
from .mel import magnitude_distance


@register("metric", "stft")
class STFTDistance(Metric):
    """L1 of STFT magnitudes plus L1 of their log10 squares, summed over window lengths.

    Constants are those of DAC's evaluation (`MultiScaleSTFTLoss` in `dac/nn/loss.py`): Hann
    windows of 2048 and 512 samples, hops of a quarter, centred frames, magnitudes clamped from
    below at 1e-5, exponent 2, both terms with weight 1. The magnitude term grows with the level.

    Args:
        window_lengths: in samples.
        clamp_eps: lower clamp of magnitudes before the logarithm.
        mag_weight, log_weight: weights of the L1 of magnitudes and of their logarithms.
        power: exponent of the clamped magnitudes before the logarithm.
    """

    title = "STFT distance"
    higher_is_better = False
    unit = "log10 + magnitude"

    def __init__(
        self,
        window_lengths: Sequence[int] = (2048, 512),
        clamp_eps: float = 1e-5,
        mag_weight: float = 1.0,
        log_weight: float = 1.0,
        power: float = 2.0,
    ) -> None:
        super().__init__()
        self.clamp_eps = clamp_eps
        self.mag_weight = mag_weight
        self.log_weight = log_weight
        self.power = power
        self.spectra = nn.ModuleList(
            Spectrogram(length, length // 4, power=1) for length in window_lengths
        )

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        distances = [
            magnitude_distance(
                spec(fake), spec(real), self.clamp_eps, self.mag_weight, self.log_weight, self.power
            )
            for spec in self.spectra
        ]
        return torch.stack(distances).sum(0)
