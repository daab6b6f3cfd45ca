"""ViSQOL, a perceptual quality estimate, through the package `visqol-python`."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from adversarial_trainer.registry import register

from .base import Metric, mono, needing

# Mode -> the rate ViSQOL works at (Hz), and the shortest clip it can score (seconds): one patch
# of spectrogram frames (80 ms windows, 20 ms hops; 45 frames and 29).
RATES = {"audio": 48000, "speech": 16000}
SHORTEST = {"audio": 0.96, "speech": 0.64}


@register("metric", "visqol")
class ViSQOL(Metric):
    """MOS-LQO, an estimated listening score from 1 (bad) to 5 (like the original).

    Channels are mixed to mono and resampled. A clip that is too short (0.96 s in audio mode, 0.64 s
    in speech mode) or has a silent `real` has no score: NaN. A silent `fake` scores 1. Errors of
    the package are not caught. It runs on the CPU and takes about as long as the clip.

    Args:
        sample_rate: of the audio given, in Hz.
        mode: 'audio' (48 kHz, music and general) or 'speech' (16 kHz).
        lattice: speech mode only: map to a score with the lattice network that Google's ViSQOL
            uses by default (needs `visqol-python[lattice]`) instead of the polynomial, whose
            scores are 1 to 2 points higher for degraded speech. Not chosen by what happens to be
            installed, so that one configuration gives one number.
    """

    title = "ViSQOL"
    higher_is_better = True
    unit = "MOS"
    slow = True

    def __init__(
        self,
        sample_rate: int,
        mode: Literal["audio", "speech"] = "audio",
        lattice: bool = False,
    ) -> None:
        super().__init__()
        if mode not in RATES:
            raise ValueError(f"Unknown ViSQOL mode {mode!r}. Choices: {', '.join(RATES)}.")
        self.sample_rate = sample_rate
        self.mode = mode
        self.title = f"ViSQOL {mode}"
        self.lattice = lattice
        self._api: Any = None

    def prepare(self) -> None:
        if self._api is None:
            extra = "[lattice]" if self.lattice else ""
            with needing(f"pip install 'visqol-python{extra}'"):
                from visqol import VisqolApi

                api = VisqolApi()
                api.create(mode=self.mode, use_lattice_model=self.lattice)
            self._api = api

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        self.prepare()
        rate = RATES[self.mode]
        fake_mono, real_mono = (mono(x, self.sample_rate, rate) for x in (fake, real))
        scores = []
        for degraded, reference in zip(fake_mono, real_mono, strict=True):
            if len(reference) < round(SHORTEST[self.mode] * rate) or not reference.any():
                scores.append(float("nan"))
            elif not degraded.any():
                scores.append(1.0)
            else:
                # The package takes (reference, degraded); AudioCraft passes them swapped.
                scores.append(self._api.measure_from_arrays(reference, degraded, rate).moslqo)
        return torch.tensor(scores, dtype=torch.float32, device=fake.device)
