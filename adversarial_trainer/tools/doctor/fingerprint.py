"""A few numbers of a recording that survive another codec, rate, level, start and some noise.

Pairs of spectral peaks (Wang 2003, "An industrial-strength audio search algorithm"): two peaks'
frequencies and the time between them make a hash. Of all the hashes of a file those are kept whose
scrambled value is smallest (Broder 1997): copies of a recording keep largely the same ones,
however long it is, and their times differ by a constant.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .spectrum import HOP

SKETCH = 128  # hashes kept of a file: 1.5 KB
# Bins of 16.7 Hz: 150 Hz to 3.5 kHz, which every codec keeps.
_LOW, _HIGH = 9, 210
# A peak is the highest within so many bins and frames to either side: some 20 a second remain.
_AROUND_BINS, _AROUND_FRAMES = 10, 10
_FLOOR = 35.0  # dB below the loudest of the second around: what lies deeper is noise, or made so
_SECOND = round(1 / HOP)
_NEXT = 5  # later peaks that a peak is paired with
_MAX_GAP = 2 * _SECOND  # frames between the two
_CHUNK = 32 * _SECOND  # frames that peaks are looked for in at a time
_CONTEXT = 2 * _SECOND  # frames beyond those, that their neighbourhood needs


class Fingerprinter:
    """Takes spectra as `Frames` gives them; `sketch` is the result."""

    def __init__(self) -> None:
        self._levels: list[np.ndarray] = []
        self._waiting = 0  # frames in `levels`
        self._first = 0  # number of the first of them
        self._done = 0  # frames whose peaks have been taken
        self._times = np.zeros(0, np.int64)
        self._bins = np.zeros(0, np.int64)
        self._hashes = np.zeros(0, np.uint32)
        self._hash_times = np.zeros(0, np.int32)

    def add(self, powers: np.ndarray) -> None:
        """Take in `[frames, bins]`."""
        band = powers[:, _LOW:_HIGH]
        self._levels.append(10 * np.log10(band + 1e-14))
        self._waiting += len(band)
        if self._first + self._waiting - self._done >= _CHUNK + _CONTEXT:
            self._take(_CONTEXT)

    def sketch(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes, uint32 and sorted, and the frames where each occurs first, at the file's end."""
        if self._waiting:
            self._take(0)
        self._pair(final=True)
        return self._hashes, self._hash_times

    def _take(self, keep: int) -> None:
        """Find the peaks of all frames but the last `keep`."""
        levels = np.concatenate(self._levels)  # [frames, bins]
        end = self._first + len(levels) - keep
        highest = ndimage.maximum_filter(
            levels, size=(2 * _AROUND_FRAMES + 1, 2 * _AROUND_BINS + 1), mode="nearest"
        )
        loudest = ndimage.maximum_filter1d(levels.max(axis=1), 2 * _SECOND + 1)
        peaks = (levels == highest) & (levels >= loudest[:, None] - _FLOOR) & (levels > -120)
        times, bins = np.nonzero(peaks[self._done - self._first : end - self._first])
        self._times = np.concatenate([self._times, times + self._done])
        self._bins = np.concatenate([self._bins, bins])
        self._done = end
        self._pair(final=False)
        first = max(self._first, end - _CONTEXT)
        self._levels = [levels[first - self._first :].copy()]
        self._first, self._waiting = first, len(self._levels[0])

    def _pair(self, final: bool) -> None:
        """Hash the pairs of the peaks so far, and keep the smallest."""
        times, bins = self._times, self._bins
        # The last ones wait for those to come.
        ready = len(times) if final else max(0, len(times) - _NEXT)
        keys, starts = [self._hashes], [self._hash_times]
        for later in range(1, _NEXT + 1):
            count = min(ready, len(times) - later)
            if count <= 0:
                break
            gap = times[later : later + count] - times[:count]
            good = (gap > 0) & (gap <= _MAX_GAP)
            packed = (bins[:count] << 16 | bins[later : later + count] << 8 | gap)[good]
            keys.append(_scramble(packed.astype(np.uint32)))
            starts.append(times[:count][good].astype(np.int32))
        # `unique` gives the first of equals.
        hashes, where = np.unique(np.concatenate(keys), return_index=True)
        self._hashes = hashes[:SKETCH]
        self._hash_times = np.concatenate(starts)[where[:SKETCH]]
        self._times, self._bins = times[ready:], bins[ready:]


def _scramble(values: np.ndarray) -> np.ndarray:
    """A bijection of 32-bit numbers that leaves no order (the finalizer of MurmurHash3)."""
    values = (values ^ values >> 16) * np.uint32(0x85EBCA6B)
    values = (values ^ values >> 13) * np.uint32(0xC2B2AE35)
    return values ^ values >> 16
