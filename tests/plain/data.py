"""Segments of files as AudioCraft reads them.

Plain: the file is opened for each segment, by soundfile, once for its rate and once to read
(AudioCraft reads wav and mp3 through FFmpeg); all channels are resampled by
`julius.resample_frac`, which computes its filter at each call, and averaged after that.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import julius
import soundfile
import torch


class PlainSegments:
    """Random segments `[channels, T]` of files of equal duration."""

    def __init__(
        self,
        paths: Sequence[str | Path],
        file_duration: float,
        segment_duration: float,
        sample_rate: int,
        channels: int,
    ) -> None:
        self.paths = [str(path) for path in paths]
        self.file_duration, self.segment_duration = file_duration, segment_duration
        self.sample_rate, self.channels = sample_rate, channels

    def __getitem__(self, index: int) -> torch.Tensor:
        draw = random.Random(index)
        path = draw.choice(self.paths)
        start = draw.uniform(0, self.file_duration - self.segment_duration)
        wav, rate = read_soundfile(path, start, self.segment_duration)
        wav = julius.resample_frac(wav, rate, self.sample_rate)
        wav = wav.mean(0, keepdim=True) if self.channels == 1 else wav
        length = round(self.segment_duration * self.sample_rate)
        return torch.nn.functional.pad(wav, (0, length - wav.shape[-1]))


def read_soundfile(path: str, start: float, duration: float) -> tuple[torch.Tensor, int]:
    """Two openings: for the rate, and for the samples."""
    rate = soundfile.info(path).samplerate
    data, _ = soundfile.read(
        path, int(duration * rate), int(start * rate), dtype="float32", always_2d=True
    )
    return torch.from_numpy(data).t(), rate
