"""Up to which frequency a file has content, whatever its sample rate promises."""

from __future__ import annotations

import numpy as np

from .spectrum import WINDOW

_BAND = 8  # bins: 133 Hz
# A wall is a fall by so much, in dB, within a tenth of the frequency. Speech and music fall by some
# 6 dB there, what lossy codecs and resampling filters leave falls by 30 and more.
WALL = 20.0
_WIDTH = 0.1
_FEWEST = 4  # bands that a wall may take, and that have to be there above it
_BEFORE = 6  # bands below it that it is measured against
# In Hz. Nothing is low-passed below the telephone's 3.4 kHz, and vowels have walls of their own.
_LOWEST = 3000.0
# Above a wall is nothing: less than this a bin, in dB against a sine at full scale. What rounding
# to 16 bits leaves is at -128 (48 kHz), dithered it is louder; the noise of a room is at -90.
_EMPTY = -100.0
_NOTHING = 10**-13.5  # below this, in power, lie only the tails of filters


class BandwidthMeter:
    """Averages spectra, and finds the highest wall in their mean."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._sum = np.zeros(0)
        self._frames = 0

    def add(self, powers: np.ndarray) -> None:
        """Take in `[frames, bins]` as `Frames` gives them."""
        total = powers.sum(axis=0, dtype=np.float64)
        self._frames += len(powers)
        self._sum = self._sum + total if len(self._sum) else total

    def cutoff(self) -> float:
        """In Hz: where content ends, or half the sample rate where nothing shows that it does.

        A spectrum that fades away has no wall: that is how most sounds are.
        """
        nyquist = self.rate / 2
        power = self._sum[1:]
        count = len(power) // _BAND
        bands = power[: count * _BAND].reshape(count, _BAND).sum(axis=1)
        if count == 0 or not bands.any():
            return nyquist
        levels = 10 * np.log10(bands / (self._frames * _BAND) + _NOTHING)
        cutoff = nyquist
        for band in range(max(_BEFORE, round(_LOWEST * WINDOW / _BAND)), count):
            after = band + max(_FEWEST, round(_WIDTH * band))
            if after + _FEWEST > count:
                break
            # Medians and quantiles, because a single tone, before or after, makes no content.
            before = float(np.median(levels[band - _BEFORE : band]))
            rest = float(np.quantile(levels[after:], 0.9))
            if rest < _EMPTY and before - rest >= WALL:  # the last of such bands counts
                inside = levels[band - _BEFORE : after] >= rest + WALL / 2
                top = band - _BEFORE + int(np.flatnonzero(inside)[-1]) + 1
                cutoff = (top * _BAND + 0.5) / WINDOW
        return min(nyquist, cutoff)
