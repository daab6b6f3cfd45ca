"""PESQ, an older quality estimate for speech, through the package `pesq`."""

from __future__ import annotations

import importlib
import math
import warnings

import numpy as np
import torch
from torch import Tensor

from adversarial_trainer.registry import register

from .base import Metric, mono, needing

RATE = 16000  # Hz
# Samples: the package's C code has room for 50 utterances and crashes on more. An utterance and the
# pause after it take 0.4 s at least. P.862.3 recommends clips of up to 30 s as well.
LONGEST = 20 * RATE


@register("metric", "pesq")
class PESQ(Metric):
    """MOS-LQO of wide-band PESQ (ITU-T P.862.2) at 16 kHz, from 1 (bad) to 4.64.

    For speech. Channels are mixed to mono and resampled. The score of a clip of more than 20 s is
    the mean over equal pieces of at most 20 s. NaN: less than 0.25 s, or no speech level in
    `real`. A silent `fake` of a `real` that has a score gives 1. On the CPU.

    Args:
        sample_rate: of the audio given, in Hz.
    """

    title = "PESQ"
    higher_is_better = True
    unit = "MOS"
    slow = True

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate

    def prepare(self) -> None:
        with needing("a C compiler and: pip install pesq"):
            importlib.import_module("pesq")

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        self.prepare()
        fake_mono, real_mono = (mono(x, self.sample_rate, RATE) for x in (fake, real))
        scores = [_score(f, r) for f, r in zip(fake_mono, real_mono, strict=True)]
        return torch.tensor(scores, dtype=torch.float32, device=fake.device)


def _score(fake: np.ndarray, real: np.ndarray) -> float:
    """Return the score of a clip `[T]` at 16 kHz."""
    pieces = max(1, math.ceil(len(real) / LONGEST))
    pairs = zip(np.array_split(fake, pieces), np.array_split(real, pieces), strict=True)
    scores = [score for f, r in pairs if not math.isnan(score := _score_piece(f, r))]
    return sum(scores) / len(scores) if scores else math.nan


def _score_piece(fake: np.ndarray, real: np.ndarray) -> float:
    from pesq import BufferTooShortError, NoUtterancesError, pesq

    if not real.any():
        return math.nan
    if not fake.any():  # the package would divide by zero
        return math.nan if math.isnan(_score_piece(real, real)) else 1.0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return float(pesq(RATE, real, fake, "wb"))
    except (NoUtterancesError, BufferTooShortError):
        return math.nan
