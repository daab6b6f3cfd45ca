"""Estimate up to which frequency a file has content, whatever its sample rate."""

from __future__ import annotations

import numpy as np
from scipy import fft, signal

# 16.7 Hz between bins at any rate.
WINDOW = 0.06  # seconds
HOP = 0.015  # seconds
_BAND = 8  # bins: 133 Hz
# Content ends with a fall by so much, in dB, within a tenth of the frequency. Speech and music fall
# by some 6 dB there, the filters of lossy codecs and resamplers by 30 and more.
FALL = 20.0
_WIDTH = 0.1
_FEWEST = 4  # bands that a fall may take, and that have to lie above it
_BEFORE = 6  # bands below it that it is measured against
# In Hz. Nothing is low-passed below the telephone's 3.4 kHz, and vowels have falls of their own.
_LOWEST = 3000.0
# Above the end of content, each bin is below this, in dB against a sine at full scale. Rounding to
# 16 bits leaves -128 (48 kHz), more if dithered; the noise of a room is at -90.
_EMPTY = -100.0
_NOTHING = 10**-13.5  # power; only the tails of filters lie below


class BandwidthMeter:
    """Averages power spectra, and finds the highest frequency where their mean falls off."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._size = max(2, round(WINDOW * rate))
        self._hop = max(1, round(HOP * rate))
        window = signal.get_window("hann", self._size)
        self._window = (window / window.sum() * 2).astype(np.float32)  # a sine of 1 has a peak of 1
        self._sum = np.zeros(self._size // 2 + 1)
        self._frames = 0

    def add(self, wave: np.ndarray) -> None:
        """Add a block `[T]` of a mono file."""
        wave = np.pad(wave, (0, max(0, self._size - len(wave))))
        frames = np.lib.stride_tricks.sliding_window_view(wave, self._size)[:: self._hop]
        for first in range(0, len(frames), 256):  # of some MB each
            spectra = fft.rfft(frames[first : first + 256] * self._window, axis=1)
            self._sum += np.square(np.abs(spectra)).sum(axis=0, dtype=np.float64)
        self._frames += len(frames)

    def cutoff(self) -> float:
        """Return in Hz where content ends, or half the sample rate if no end is found.

        A spectrum that fades away, as that of most sounds, has no end.
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
            # Medians and quantiles, because single tones are not content.
            before = float(np.median(levels[band - _BEFORE : band]))
            rest = float(np.quantile(levels[after:], 0.9))
            if rest < _EMPTY and before - rest >= FALL:  # the last of such bands counts
                inside = levels[band - _BEFORE : after] >= rest + FALL / 2
                top = band - _BEFORE + int(np.flatnonzero(inside)[-1]) + 1
                cutoff = (top * _BAND + 0.5) / WINDOW
        return min(nyquist, cutoff)
