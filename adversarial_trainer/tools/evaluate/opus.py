"""Opus as a baseline, through libsndfile."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from adversarial_trainer.audio import resample

RATE = 48000  # Hz, of Opus; other rates are resampled here, by filters without delay
# kb/s for each channel, which libsndfile's compression levels 1 and 0 stand for.
LOWEST, HIGHEST = 6.0, 256.0
MAX_LAG = 8  # samples at 48 kHz (0.17 ms) that decoded audio is moved by at most


@dataclass(frozen=True)
class Opus:
    """Encodes and decodes with libopus, at a variable bitrate.

    Attributes:
        rates: kb/s at which it is evaluated.
    """

    rates: Sequence[float] = ()
    name = "opus"  # of the system in results

    @staticmethod
    def takes(bandwidth: float, channels: int) -> bool:
        """Return whether `bandwidth` kb/s is a rate of Opus."""
        return LOWEST <= bandwidth / channels <= HIGHEST

    @staticmethod
    def limits(channels: int) -> str:
        """Return the lowest and the highest rate, in words."""
        return f"{LOWEST * channels:g} to {HIGHEST * channels:g} kb/s"

    def __call__(self, wav: Tensor, sample_rate: int, bandwidth: float) -> tuple[Tensor, float]:
        """Encode and decode `wav` `[C, T]` at `bandwidth` kb/s.

        Returns:
            The decoded audio, aligned with `wav` and of its shape, and the kb/s of its packets,
            without headers and the Ogg container.
        """
        audio = resample(wav.detach().cpu().float(), sample_rate, RATE).clamp(-1, 1)
        level = (HIGHEST - bandwidth / wav.shape[0]) / (HIGHEST - LOWEST)
        file = io.BytesIO()
        soundfile.write(  # [C, T] -> [T, C]
            file, audio.numpy().T, RATE, format="OGG", subtype="OPUS", compression_level=level
        )
        measured = packet_bytes(file.getvalue()) * 8 / (wav.shape[-1] / sample_rate) / 1000
        file.seek(0)
        data, _ = soundfile.read(file, dtype="float32", always_2d=True)
        aligned = _align(torch.from_numpy(np.ascontiguousarray(data.T)), audio)
        out = resample(aligned, RATE, sample_rate)
        out = F.pad(out, (0, max(0, wav.shape[-1] - out.shape[-1])))
        return out[:, : wav.shape[-1]].to(wav), measured


def _align(decoded: Tensor, audio: Tensor) -> Tensor:
    """Return `decoded` without the few samples of delay that libopus leaves.

    Its speech mode is 0.05 to 0.1 ms early or late, depending on bandwidth, in any program. That
    is inaudible, but lowers the SI-SDR.
    """
    length = min(decoded.shape[-1], audio.shape[-1])
    one, other = (F.pad(x[:, :length], (MAX_LAG, MAX_LAG)) for x in (decoded, audio))
    lags = sorted(range(-MAX_LAG, MAX_LAG + 1), key=abs)  # of equals, the first is the maximum
    lag = max(lags, key=lambda lag: float((one.roll(lag, -1) * other).sum()))
    return F.pad(decoded, (lag, -lag))


def packet_bytes(ogg: bytes) -> int:
    """Return the number of bytes of the audio packets of an Ogg Opus file (RFC 3533, RFC 7845).

    They are the bodies of all pages but those of the two headers, which have their own pages.
    """
    total = position = headers = 0
    while position < len(ogg):
        segments = ogg[position + 26]
        table = ogg[position + 27 : position + 27 + segments]
        if ogg[position : position + 4] != b"OggS" or len(table) < segments:
            raise ValueError("not an Ogg file, or a damaged one")
        if headers < 2:
            headers += sum(size < 255 for size in table)  # a packet's last segment is shorter
        else:
            total += sum(table)
        position += 27 + segments + sum(table)
    return total
