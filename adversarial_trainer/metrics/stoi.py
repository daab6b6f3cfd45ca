"""STOI, an estimate of the intelligibility of speech, through the package `pystoi`."""

from __future__ import annotations

import importlib
import math
import warnings

import numpy as np
import torch
from torch import Tensor

from adversarial_trainer.registry import register

from .base import Metric, needing


@register("metric", "stoi")
class STOI(Metric):
    """Short-time objective intelligibility (Taal et al. 2011), at most 1.

    For speech. Channels are mixed to mono; the package resamples to 10 kHz and leaves out silent
    frames. NaN: less than 30 frames (0.4 s) are left, where the package itself gives 1e-5. A
    silent `fake` gives 0. On the CPU.

    Args:
        sample_rate: of the audio given, in Hz.
        extended: ESTOI (Jensen and Taal 2016) instead.
    """

    title = "STOI"
    higher_is_better = True
    unit = "share"
    slow = True

    def __init__(self, sample_rate: int, extended: bool = False) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.extended = extended
        if extended:
            self.title = "ESTOI"

    def prepare(self) -> None:
        with needing("pip install pystoi"):
            importlib.import_module("pystoi")

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        self.prepare()
        fake_mono, real_mono = (x.detach().cpu().double().mean(1).numpy() for x in (fake, real))
        scores = [self._score(f, r) for f, r in zip(fake_mono, real_mono, strict=True)]
        return torch.tensor(scores, dtype=torch.float32, device=fake.device)

    def _score(self, fake: np.ndarray, real: np.ndarray) -> float:
        """Return the score of a clip `[T]`."""
        from pystoi import stoi

        if not real.any() or len(real) < 0.4 * self.sample_rate:
            return math.nan
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
            try:
                return float(stoi(real, fake, self.sample_rate, extended=self.extended))
            except RuntimeWarning:
                return math.nan
