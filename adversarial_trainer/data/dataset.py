"""Random segments of files, for training."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from adversarial_trainer import audio

from .decoding import decode, reason_of, usable_frames
from .manifest import AudioMeta


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """Origin of a segment.

    Attributes:
        path: its file.
        start: seconds into the file.
        duration: seconds of audio, without the padding.
        pad: zeros at the end, in samples.
        epoch, index: its key in the dataset.
        skipped: `(path, reason)` of files that were drawn before and could not be read.
    """

    path: str
    start: float
    duration: float
    pad: int
    epoch: int
    index: int
    skipped: tuple[tuple[str, str], ...] = ()


class SegmentDataset:
    """Random segments; `dataset[epoch, index]` gives `(wav, info)`, wav float32 `[channels, T]`.

    T is always `round(segment_duration * sample_rate)`. A file is drawn in proportion to duration
    times weight, the position in it uniformly; a shorter file is padded with zeros at its end. Only
    the segment is read from disk, with the margin that the resampling filter needs. The same (seed,
    epoch, index) gives the same segment in any process: no state is kept between draws.

    A file that cannot be read, is not finite, or has channels that do not convert is named in
    `info.skipped` and another one is drawn, up to `max_tries` files.

    Args:
        metas: files; durations and weights give the probabilities, rate and length are read from
            the file.
        segment_duration: in seconds.
        sample_rate, channels: of the result.
        seed: >= 0. The draws of different (seed, epoch, index) never coincide.
        num_samples: `len(dataset)`, needed for a validation set.

    Raises:
        RuntimeError: (when indexed) `max_tries` files, or all there are, could not be read.
    """

    def __init__(
        self,
        metas: Sequence[AudioMeta],
        segment_duration: float,
        sample_rate: int,
        channels: int,
        seed: int = 0,
        num_samples: int | None = None,
        max_tries: int = 10,
    ) -> None:
        self.length = round(segment_duration * sample_rate)
        if self.length < 1:
            raise ValueError(
                f"segment_duration={segment_duration} s is less than a sample at {sample_rate} Hz"
            )
        if seed < 0 or channels < 1 or max_tries < 1:
            raise ValueError(
                "expected seed >= 0, channels >= 1, max_tries >= 1, "
                f"got {seed}, {channels}, {max_tries}"
            )
        self.sample_rate = sample_rate
        self.channels = channels
        self.seed = seed
        self.num_samples = num_samples
        self.max_tries = max_tries
        self._weights = np.array(
            [meta.duration * (1.0 if meta.weight is None else meta.weight) for meta in metas]
        )
        if not self._weights.sum() > 0:
            raise ValueError(f"none of {len(metas)} files has a duration and a weight above 0")
        self._ends = np.cumsum(self._weights)
        self._durations = np.array([meta.duration for meta in metas])
        # An array, because the reference counts of a list of strings change when they are used,
        # which would copy the list into every worker, page by page.
        self._paths = np.array([os.fsencode(meta.path) for meta in metas])

    def __len__(self) -> int:
        if self.num_samples is None:
            raise TypeError("this dataset is endless: num_samples was not given")
        return self.num_samples

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, SegmentInfo]:
        epoch, index = key
        skipped: dict[int, tuple[str, str]] = {}
        for attempt in range(self.max_tries):
            random = _Random(self.seed, epoch, index, attempt)
            number = self._draw(random, skipped)
            if number is None:
                break
            path = os.fsdecode(self._paths[number])
            try:
                wav, start = self._read(path, float(self._durations[number]), random.uniform())
            except (OSError, ValueError) as error:
                skipped[number] = (path, reason_of(error))
                continue
            pad = self.length - wav.shape[-1]
            if pad:
                wav = torch.nn.functional.pad(wav, (0, pad))
            rate = self.sample_rate
            return wav, SegmentInfo(
                path, start / rate, (self.length - pad) / rate, pad, epoch, index,
                tuple(skipped.values()),
            )  # fmt: skip
        names = "; ".join(f"{path!r}: {reason}" for path, reason in skipped.values())
        raise RuntimeError(f"no segment for epoch {epoch}, item {index}; unreadable: {names}")

    def _draw(self, random: _Random, excluded: Iterable[int]) -> int | None:
        ends = self._ends
        if out := list(excluded):
            weights = self._weights.copy()
            weights[out] = 0
            ends = np.cumsum(weights)
            if not ends[-1] > 0:
                return None
        # 'right' skips files of weight 0; rounding can reach the very end of the sum.
        number = int(np.searchsorted(ends, random.uniform() * ends[-1], side="right"))
        return min(number, int(np.searchsorted(ends, ends[-1], side="left")))

    def _read(self, path: str, duration: float, position: float) -> tuple[torch.Tensor, int]:
        """Return a segment and its start, both in samples of the result.

        It equals that part of the converted file; `position` in [0, 1) is among all starts.
        """
        with audio.open_audio(path) as file:
            low, high = audio.rate_ratio(file.samplerate, self.sample_rate)
            margin = audio.resample_margin(low, high)
            frames = usable_frames(file, duration)
            total = -(-frames * high // low)  # samples after resampling, rounded up
            start = math.floor(position * (max(0, total - self.length) + 1))
            stop = min(total, start + self.length)
            # Reading starts at a multiple of `low` frames, which is a whole number of samples after
            # resampling, so that these fall on the grid of the whole file's.
            block = max(0, (start * low // high - margin) // low)
            end = min(frames, -(-stop * low // high) + margin)
            wav = decode(file, block * low, end - block * low)
        with _one_thread():
            wav = audio.convert(wav, low, high, self.channels)
        offset = start - block * high
        return wav[:, offset : offset + stop - start], start


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, as in workers: the number of threads changes the last bits of a product."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Random:
    """Random numbers in [0, 1) for a key of four integers of up to 64 bits.

    Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is a bijection of its
    counter for each key, so different keys never share a draw, as they could if the integers were
    hashed or added. Seed and epoch are the key, index and attempt the upper half of the counter;
    the lower half counts the draws.
    """

    def __init__(self, seed: int, epoch: int, index: int, attempt: int) -> None:
        self._philox = np.random.Philox(
            key=np.array([seed, epoch], np.uint64),
            counter=np.array([0, 0, attempt, index], np.uint64),
        )

    def uniform(self) -> float:
        # Raw bits, because numpy may change what Generator makes of them.
        return (int(self._philox.random_raw()) >> 11) * 2.0**-53
