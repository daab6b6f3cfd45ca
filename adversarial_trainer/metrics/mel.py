"""Multi-scale mel distance of the Descript Audio Codec."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from adversarial_trainer.modules.spectral import MelSpectrogram
from adversarial_trainer.registry import register

from .base import Metric

# Samples of a window -> number of filters.
SCALES = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}
LOWEST = 1e-5  # magnitudes are clamped to it before the logarithm


@register("metric", "mel")
class MelDistance(Metric):
    """L1 of log10 mel magnitudes, summed over window lengths (DAC, arXiv 2306.06546).

    Constants are those of DAC's evaluation (`conf/base.yml` and `dac/nn/loss.py`): Hann windows
    with hops of a quarter, centred frames, Slaney mel filters with area normalisation from 0 Hz to
    sample_rate / 2, magnitudes clamped from below at 1e-5, only the logarithmic term, exponent 1.
    DAC evaluates at 44.1 and 22.05 kHz: compare numbers at one rate. Filters that are empty, as one
    of windows 32 and 64 each at 48 kHz, count as equal, as in DAC's code.

    Args:
        sample_rate: in Hz.
    """

    title = "Mel distance"
    higher_is_better = False
    unit = "log10"

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        mel = partial(
            MelSpectrogram, sample_rate, power=1, scale="slaney", area_norm=True, widen=False
        )
        spectra = [mel(window, window // 4, n_mels=n) for window, n in SCALES.items()]
        self.spectra = nn.ModuleList(spectra)

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        scales = [log_distance(spectrum(fake), spectrum(real)) for spectrum in self.spectra]
        return torch.stack(scales).sum(0)


def log_distance(fake: Tensor, real: Tensor) -> Tensor:
    """Return the L1 of the log10 of magnitudes `[B, ...]`, a mean for each item: `[B]`."""
    logs = [x.clamp_min(LOWEST).log10() for x in (fake, real)]
    return (logs[0] - logs[1]).abs().flatten(1).mean(1)
