"""Multi-resolution STFT distance of the Descript Audio Codec."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adversarial_trainer.modules.spectral import Spectrogram
from adversarial_trainer.registry import register

from .base import Metric
from .mel import log_distance


@register("metric", "stft")
class STFTDistance(Metric):
    """L1 of STFT magnitudes plus L1 of their log10 squares, summed over window lengths.

    Constants are those of DAC's evaluation (`MultiScaleSTFTLoss` in `dac/nn/loss.py`): Hann
    windows of 2048 and 512 samples, hops of a quarter, centred frames, magnitudes clamped from
    below at 1e-5, exponent 2, both terms with weight 1. The magnitude term grows with the level.
    """

    title = "STFT distance"
    higher_is_better = False
    unit = "log10 + magnitude"

    def __init__(self) -> None:
        super().__init__()
        self.spectra = nn.ModuleList(Spectrogram(n, n // 4, power=1) for n in (2048, 512))

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        total = torch.zeros((), dtype=real.dtype, device=real.device)
        for spectrum in self.spectra:
            magnitudes = spectrum(fake), spectrum(real)
            linear = (magnitudes[0] - magnitudes[1]).abs().flatten(1).mean(1)
            total = total + linear + 2 * log_distance(*magnitudes)
        return total
