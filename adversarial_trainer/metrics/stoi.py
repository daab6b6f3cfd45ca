"""STOI, an estimate of the intelligibility of speech, through the package `pystoi`."""

from __future__ import annotations

import math
import warnings

import numpy as np

from adversarial_trainer.registry import register

from .base import PackageMetric


@register("metric", "stoi")
class STOI(PackageMetric):
    """Short-time objective intelligibility (Taal et al. 2011), at most 1.

    For speech. The package resamples to 10 kHz and leaves out silent frames. NaN: less than 30
    frames (0.4 s) are left, where the package itself gives 1e-5. A silent `fake` gives 0.

    Args:
        sample_rate: of the audio given, in Hz.
        extended: ESTOI (Jensen and Taal 2016) instead.
    """

    title = "STOI"
    unit = "share"
    package, install = "pystoi", "pip install pystoi"

    def __init__(self, sample_rate: int, extended: bool = False) -> None:
        super().__init__(sample_rate, sample_rate)
        self.extended = extended
        if extended:
            self.title = "ESTOI"

    def score(self, fake: np.ndarray, real: np.ndarray) -> float:
        from pystoi import stoi

        if not real.any() or len(real) < 0.4 * self.sample_rate:
            return math.nan
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
            try:
                return float(stoi(real, fake, self.sample_rate, extended=self.extended))
            except RuntimeWarning:
                return math.nan
