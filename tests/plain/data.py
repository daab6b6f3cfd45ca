"""Segments of files as AudioCraft reads them.

Plain: the file is opened for each segment, wav and mp3 through FFmpeg (the package `av`), which
seeks and decodes frame by frame, flac and ogg through soundfile, which opens it once for its rate
and once to read; all channels are resampled by `julius.resample_frac`, which computes its filter
at each call, and averaged after that.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import julius
import soundfile
import torch

# Seconds before a segment from which a decoder is started, so that mp3 has settled.
EARLIER = 0.1


class PlainSegments:
    """Random segments `[channels, T]` of files of equal duration.

    Args:
        with_av: read wav and mp3 with `av`; otherwise all with soundfile.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        file_duration: float,
        segment_duration: float,
        sample_rate: int,
        channels: int,
        with_av: bool,
    ) -> None:
        self.paths = [str(path) for path in paths]
        self.file_duration, self.segment_duration = file_duration, segment_duration
        self.sample_rate, self.channels = sample_rate, channels
        self.with_av = with_av

    def __getitem__(self, index: int) -> torch.Tensor:
        draw = random.Random(index)
        path = draw.choice(self.paths)
        start = draw.uniform(0, self.file_duration - self.segment_duration)
        read = read_soundfile
        if self.with_av and not path.endswith((".flac", ".ogg")):
            read = read_av
        wav, rate = read(path, start, self.segment_duration)
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


def read_av(path: str, start: float, duration: float) -> tuple[torch.Tensor, int]:
    """Decoded from a little before the segment, cut to it."""
    import av

    with av.open(path) as container:
        stream: Any = container.streams.audio[0]
        rate = stream.codec_context.sample_rate
        first, wanted = int(rate * start), int(rate * duration)
        container.seek(int(max(0.0, start - EARLIER) / stream.time_base), stream=stream)
        parts, have = [], 0
        for frame in container.decode(streams=stream.index):
            begin = int(frame.rate * frame.pts * frame.time_base)
            part = torch.from_numpy(frame.to_ndarray())
            if part.shape[0] == 1:  # channels in turn
                part = part.view(-1, stream.channels).t()
            part = part[:, max(0, first - begin) :]
            parts.append(part)
            have += part.shape[1]
            if have >= wanted:
                break
    wav = torch.cat(parts, dim=1)[:, :wanted]
    return (wav if wav.is_floating_point() else wav.float() / 2**15), rate
