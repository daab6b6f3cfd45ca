"""PESQ, an older quality estimate for speech, through the package `pesq`."""

from __future__ import annotations

import math
import warnings

import numpy as np

from adversarial_trainer.registry import register

from .base import PackageMetric

RATE = 16000  # Hz
# Samples: the package's C code has room for 50 utterances and crashes on more. An utterance and the
# pause after it take 0.4 s at least. P.862.3 recommends clips of up to 30 s as well.
LONGEST = 20 * RATE


@register("metric", "pesq")
class PESQ(PackageMetric):
    """MOS-LQO of wide-band PESQ (ITU-T P.862.2) at 16 kHz, from 1 (bad) to 4.64.

    For speech. The score of a clip of more than 20 s is the mean over equal pieces of at most 20 s.
    NaN: less than 0.25 s, or no speech level in `real`. A silent `fake` of a `real` that has a
    score gives 1.

    Args:
        sample_rate: of the audio given, in Hz.
    """

    title = "PESQ"
    unit = "MOS"
    package, install = "pesq", "a C compiler and: pip install pesq"

    def __init__(self, sample_rate: int) -> None:
        super().__init__(sample_rate, RATE)

    def score(self, fake: np.ndarray, real: np.ndarray) -> float:
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
