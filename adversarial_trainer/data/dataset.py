"""Random segments of files, for training, and whole files, for evaluation and generation."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch

from adversarial_trainer import audio

from .augment import Augmentation
from .decoding import SkipLog, decode, reason_of, usable_frames
from .manifest import AudioMeta

MAX_TRIES = 10  # files for one segment
_AUGMENT = 1 << 32  # as the attempt of a key of random numbers: above all attempts


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """Origin of a segment.

    Attributes:
        path: its file.
        start: seconds into the file.
        pad: zeros at the end, in samples.
        epoch, index: its key in the dataset.
        skipped: `(path, reason)` of files that were drawn before and could not be read.
    """

    path: str
    start: float
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
    `info.skipped` and another one is drawn, up to `MAX_TRIES` files.

    Args:
        metas: files; durations and weights give the probabilities, rate and length are read from
            the file.
        segment_duration: in seconds.
        sample_rate, channels: of the result.
        seed: >= 0. The draws of different (seed, epoch, index) never coincide.
        augmentations: what segments go through, by name, in that order. Each has draws of its own,
            so that one more changes neither which segments there are nor what the others do.

    Indexing raises RuntimeError if `MAX_TRIES` files, or all there are, could not be read.
    """

    def __init__(
        self,
        metas: Sequence[AudioMeta],
        segment_duration: float,
        sample_rate: int,
        channels: int,
        seed: int = 0,
        augmentations: Mapping[str, Augmentation] = MappingProxyType({}),
    ) -> None:
        self.augmentations = dict(augmentations)
        self.length = round(segment_duration * sample_rate)
        self.sample_rate = sample_rate
        self.channels = channels
        self.seed = seed
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

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, SegmentInfo]:
        epoch, index = key
        skipped: dict[int, tuple[str, str]] = {}
        for attempt in range(MAX_TRIES):
            random = _random(self.seed, epoch, index, attempt)
            number = self._draw(random, skipped)
            if number is None:
                break
            path = os.fsdecode(self._paths[number])
            try:
                wav, start = self._read(path, float(self._durations[number]), random.random())
            except (OSError, ValueError) as error:
                skipped[number] = (path, reason_of(error))
                continue
            wav = self._augment(wav, epoch, index)
            pad = self.length - wav.shape[-1]
            info = SegmentInfo(
                path, start / self.sample_rate, pad, epoch, index, tuple(skipped.values())
            )
            return torch.nn.functional.pad(wav, (0, pad)), info
        names = "; ".join(f"{path!r}: {reason}" for path, reason in skipped.values())
        raise RuntimeError(f"no segment for epoch {epoch}, item {index}; unreadable: {names}")

    def _augment(self, wav: torch.Tensor, epoch: int, index: int) -> torch.Tensor:
        with _one_thread():
            for name, augmentation in self.augmentations.items():
                own = _AUGMENT + zlib.crc32(name.encode())
                wav = augmentation(wav, _random(self.seed, epoch, index, own))
        return wav

    def _draw(self, random: np.random.Generator, excluded: Collection[int]) -> int | None:
        ends = self._ends
        if excluded:
            weights = self._weights.copy()
            weights[list(excluded)] = 0
            ends = np.cumsum(weights)
            if not ends[-1] > 0:
                return None
        # 'right' skips files of weight 0; rounding can reach the very end of the sum.
        number = int(np.searchsorted(ends, random.random() * ends[-1], side="right"))
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


def _random(seed: int, epoch: int, index: int, attempt: int) -> np.random.Generator:
    """Return the random numbers of a key of four integers of up to 64 bits.

    Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is a bijection of its
    counter for each key, so different keys never share a draw, as they could if the integers were
    hashed or added. Seed and epoch are the key, index and attempt the upper half of the counter;
    the lower half counts the draws.
    """
    key = np.array([seed, epoch], np.uint64)
    counter = np.array([0, 0, attempt, index], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class FileDataset:
    """Whole files, or their beginnings, in order; `dataset[n]` gives `(wav, meta)`.

    Args:
        metas: the files.
        sample_rate, channels: of the result, float32 `[channels, T]`.
        max_duration: seconds from the start of each; None for all.
    """

    def __init__(
        self,
        metas: Sequence[AudioMeta],
        sample_rate: int,
        channels: int,
        max_duration: float | None = None,
    ) -> None:
        self.metas = list(metas)
        self.sample_rate = sample_rate
        self.channels = channels
        self.max_duration = max_duration
        self.skips = SkipLog()

    def __len__(self) -> int:
        return len(self.metas)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, AudioMeta]:
        """Read a file. Raises OSError or ValueError if it cannot be read."""
        meta = self.metas[index]
        with audio.open_audio(meta.path) as file:
            rate = file.samplerate
            limit = usable_frames(file, meta.duration)
            length = None
            if self.max_duration is not None:
                length = max(1, round(self.max_duration * self.sample_rate))
                needed = math.ceil(length * rate / self.sample_rate)
                limit = min(limit, needed + audio.resample_margin(rate, self.sample_rate))
            wav = decode(file, 0, limit)
        wav = audio.convert(wav, rate, self.sample_rate, self.channels)
        return wav[:, :length], meta

    def readable(
        self, indices: Iterable[int] | None = None
    ) -> Iterator[tuple[int, torch.Tensor, AudioMeta]]:
        """Yield `(index, wav, meta)` of the files (those of `indices`) that can be read.

        The others are logged, and counted in `skips`.
        """
        for index in range(len(self)) if indices is None else indices:
            try:
                wav, meta = self[index]
            except (OSError, ValueError) as error:
                self.skips.add([(self.metas[index].path, reason_of(error))])
                continue
            yield index, wav, meta
