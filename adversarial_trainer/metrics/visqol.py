"""ViSQOL, a perceptual quality estimate, through the package `visqol-python`."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from adversarial_trainer.registry import register

from .base import PackageMetric

# Mode -> the rate ViSQOL works at (Hz), and the shortest clip it can score (seconds): one patch
# of spectrogram frames (80 ms windows, 20 ms hops; 45 frames and 29).
MODES = {"audio": (48000, 0.96), "speech": (16000, 0.64)}


@register("metric", "visqol")
class ViSQOL(PackageMetric):
    """MOS-LQO, an estimated listening score from 1 (bad) to 5 (like the original).

    A clip that is too short (0.96 s in audio mode, 0.64 s in speech mode) or has a silent `real`
    has no score: NaN. A silent `fake` scores 1. It takes about as long as the clip.

    Args:
        sample_rate: of the audio given, in Hz.
        mode: 'audio' (48 kHz, music and general) or 'speech' (16 kHz).
        lattice: speech mode only: map to a score with the lattice network that Google's ViSQOL
            uses by default (needs `visqol-python[lattice]`) instead of the polynomial, whose
            scores are 1 to 2 points higher for degraded speech. Not chosen by what happens to be
            installed, so that one configuration gives one number.
    """

    title = "ViSQOL"
    unit = "MOS"
    package, install = "visqol", "pip install visqol-python"

    def __init__(
        self,
        sample_rate: int,
        mode: Literal["audio", "speech"] = "audio",
        lattice: bool = False,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"Unknown ViSQOL mode {mode!r}. Choices: {', '.join(MODES)}.")
        rate, shortest = MODES[mode]
        super().__init__(sample_rate, rate)
        self.shortest = shortest
        self.mode = mode
        self.title = f"ViSQOL {mode}"
        self.lattice = lattice
        self._api: Any = None  # made at the first use, as it cannot be sent to another process

    def prepare(self) -> None:
        super().prepare()
        if self.lattice:
            self._make_api()  # whose ImportError says how to install it

    def _make_api(self) -> Any:
        from visqol import VisqolApi

        api = VisqolApi()
        api.create(mode=self.mode, use_lattice_model=self.lattice)
        return api

    def score(self, fake: np.ndarray, real: np.ndarray) -> float:
        if len(real) < round(self.shortest * self.rate) or not real.any():
            return math.nan
        if not fake.any():
            return 1.0
        if self._api is None:
            self._api = self._make_api()
        # The package takes (reference, degraded); AudioCraft passes them swapped.
        return float(self._api.measure_from_arrays(real, fake, self.rate).moslqo)
