"""Whole files, for evaluation and generation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch

from adversarial_trainer import audio

from .decoding import SkipLog, decode, reason_of, usable_frames
from .manifest import AudioMeta


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
        if max_duration is not None and not max_duration > 0:
            raise ValueError(f"max_duration must be > 0 seconds or null, got {max_duration}")
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
