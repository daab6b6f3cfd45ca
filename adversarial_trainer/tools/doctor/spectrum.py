"""Power spectra of a waveform that arrives in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import fft, signal

# 16.7 Hz between bins at any rate; a number of samples that transforms fast at all the usual ones.
WINDOW = 0.06  # seconds
HOP = 0.015  # seconds


class Frames:
    """Cuts blocks of a mono waveform into windowed frames at fixed times, and transforms them.

    Frame n begins at sample `round(n * HOP * rate)`: the same times and the same frequencies at
    any rate, and for any division into blocks.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.size = max(2, round(WINDOW * rate))  # samples
        self.count = 0
        window = signal.get_window("hann", self.size)
        self._window = (window / window.sum() * 2).astype(np.float32)  # a sine of 1 has a peak of 1
        self._rest = np.zeros(0, np.float32)
        self._start = 0  # of `rest`, in samples from the beginning of the file

    def add(self, wave: np.ndarray) -> Iterator[np.ndarray]:
        """Powers `[frames, size // 2 + 1]` of the frames that `wave`, `[T]`, completes."""
        wave = np.concatenate([self._rest, wave])
        end = self._start + len(wave)
        first = self.count
        while self._position(self.count) + self.size <= end:
            self.count += 1
        # In parts of some MB, so that memory does not follow the size of blocks.
        for part in range(first, self.count, 256):
            numbers = range(part, min(part + 256, self.count))
            starts = np.array([self._position(n) - self._start for n in numbers])
            windows = np.lib.stride_tricks.sliding_window_view(wave, self.size)[starts]
            yield self._transform(windows)
        keep = max(0, min(len(wave), self._position(self.count) - self._start))
        self._rest, self._start = wave[keep:].copy(), self._start + keep

    def flush(self) -> Iterator[np.ndarray]:
        """The one frame, padded, of a file that is shorter than that."""
        if self.count == 0:
            self.count = 1
            yield self._transform(np.pad(self._rest, (0, self.size - len(self._rest)))[None])

    def _position(self, number: int) -> int:
        return round(number * HOP * self.rate)

    def _transform(self, frames: np.ndarray) -> np.ndarray:
        spectra = fft.rfft(frames * self._window, axis=1)
        return np.square(spectra.real) + np.square(spectra.imag)
