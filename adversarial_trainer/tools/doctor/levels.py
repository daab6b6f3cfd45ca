"""Levels, clipping, silence and offset of samples that arrive in blocks."""

from __future__ import annotations

import math

import numpy as np

# RMS over 0.1 s below which a stretch is silence, in dBFS: below the noise of any room.
SILENCE = -60.0
SILENCE_WINDOW = 0.1  # seconds
# Three equal samples in a row at the top (-0.09 dBFS, which 8 bits reach as well) are no wave.
CLIP_LEVEL = 0.99
CLIP_RUN = 3


class LevelMeter:
    """Takes blocks `[C, n]`, finite; the results are attributes and properties."""

    def __init__(self, rate: int, channels: int) -> None:
        self.frames = 0
        self.peak = 0.0
        self._channels = channels
        self._window = max(1, round(SILENCE_WINDOW * rate))
        self._rest = np.zeros((channels, 0), np.float32)
        self._silent = 0  # frames
        self._square = 0.0
        self._sum = np.zeros(channels)
        self._last = np.zeros((channels, 1), np.float32)
        self._clipped = 0  # samples

    def add(self, block: np.ndarray) -> None:
        self.frames += block.shape[1]
        peak = float(max(-block.min(), block.max()))
        self.peak = max(self.peak, peak)
        self._sum += block.sum(axis=1, dtype=np.float64)
        if peak >= CLIP_LEVEL:
            self._clipped += _clipped(np.concatenate([self._last, block], axis=1))
        self._last = block[:, -1:].copy()
        if self._rest.size:
            block = np.concatenate([self._rest, block], axis=1)
        whole = block.shape[1] // self._window * self._window
        self._measure(block[:, :whole].reshape(self._channels, -1, self._window))
        self._rest = block[:, whole:].copy()

    def finish(self) -> None:
        """Take in what does not fill a window."""
        if self._rest.size:
            self._measure(self._rest[:, None])
            self._rest = self._rest[:, :0]

    @property
    def rms(self) -> float:
        """Over all channels; a square wave at full scale has 1."""
        return math.sqrt(self._square / max(1, self.frames * self._channels))

    @property
    def offset(self) -> float:
        """The largest mean of a channel."""
        return float(np.abs(self._sum).max()) / max(1, self.frames)

    @property
    def silence(self) -> float:
        """Share of the file."""
        return self._silent / max(1, self.frames)

    @property
    def clipped(self) -> float:
        """Share of the samples."""
        return self._clipped / max(1, self.frames * self._channels)

    def _measure(self, windows: np.ndarray) -> None:
        """`[C, windows, n]`: a window is silent if all of its channels are."""
        squares = np.einsum("cwn,cwn->cw", windows, windows)
        self._square += float(squares.sum(dtype=np.float64))
        length = windows.shape[2]
        limit = length * 10 ** (SILENCE / 10)
        self._silent += length * int((squares.max(axis=0) < limit).sum())


def _clipped(block: np.ndarray) -> int:
    """Samples in runs that stay at the top, or beyond full scale, which no integer format holds."""
    magnitude = np.abs(block)
    equal = block[:, 1:] == block[:, :-1]
    stays = (magnitude[:, 1:] > 1) | ((magnitude[:, 1:] >= CLIP_LEVEL) & equal)
    count = 0
    for channel in stays:
        edges = np.flatnonzero(np.diff(channel, prepend=False, append=False))
        lengths = edges[1::2] - edges[::2] + 1  # with the sample that the first one equals
        count += int(lengths[lengths >= CLIP_RUN].sum())
    return count


def decibels(amplitude: float) -> float | None:
    """dB against full scale; None for zero."""
    return 20 * math.log10(amplitude) if amplitude > 0 else None
