"""Opus as a baseline, through the programs of opus-tools or ffmpeg."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from adversarial_trainer.audio import resample

RATE = 48000  # Hz, of Opus; other rates are resampled here, by filters without delay
LOWEST = 6.0  # kb/s of a stream; encoders refuse lower rates, or do not keep to them
HIGHEST = 256.0  # kb/s for each channel
MAX_LAG = 8  # samples at 48 kHz (0.17 ms) that decoded audio is moved by at most
MISSING = (
    "No Opus baseline: neither opusenc and opusdec (apt install opus-tools) nor an ffmpeg with "
    "libopus is installed."
)


@dataclass(frozen=True)
class Opus:
    """Encodes and decodes with Opus in its default mode, variable bitrate, highest complexity.

    Attributes:
        program: 'opusenc' or 'ffmpeg'.
        rates: kb/s at which it is evaluated.
    """

    program: str
    rates: Sequence[float] = ()
    name = "opus"  # of the system in results

    @staticmethod
    def find(rates: Sequence[float] = ()) -> Opus | None:
        """Return the installed one; None if there is none."""
        if shutil.which("opusenc") and shutil.which("opusdec"):
            return Opus("opusenc", rates)
        if shutil.which("ffmpeg"):
            command = ["ffmpeg", "-hide_banner", "-encoders"]
            if "libopus" in subprocess.run(command, capture_output=True, text=True).stdout:
                return Opus("ffmpeg", rates)
        return None

    @staticmethod
    def takes(bandwidth: float, channels: int) -> bool:
        """Return whether Opus has streams of `bandwidth` kb/s."""
        return LOWEST <= bandwidth <= HIGHEST * channels

    def __call__(self, wav: Tensor, sample_rate: int, bandwidth: float) -> tuple[Tensor, float]:
        """Encode and decode `wav` `[C, T]`, C of 1 or 2, at `bandwidth` kb/s.

        Returns:
            The decoded audio, aligned with `wav` and of its shape, and the kb/s of its packets,
            without headers and the Ogg container.

        Raises:
            ChildProcessError: the program failed.
        """
        audio = resample(wav.detach().cpu().float(), sample_rate, RATE).clamp(-1, 1)
        with tempfile.TemporaryDirectory(prefix="opus-") as folder:
            source, coded, decoded = (Path(folder, n) for n in ("in.wav", "coded.opus", "out.wav"))
            soundfile.write(source, audio.numpy().T, RATE, subtype="FLOAT")  # [C, T] -> [T, C]
            if self.program == "opusenc":
                rate = f"{bandwidth:.3f}"
                _run("opusenc", "--quiet", "--bitrate", rate, "--padding", "0", source, coded)
                _run("opusdec", "--quiet", "--float", "--rate", str(RATE), coded, decoded)
            else:
                ffmpeg = ("ffmpeg", "-nostdin", "-v", "error")
                rate = str(round(bandwidth * 1000))
                _run(*ffmpeg, "-i", source, "-c:a", "libopus", "-b:a", rate, coded)
                _run(*ffmpeg, "-c:a", "libopus", "-i", coded, "-c:a", "pcm_f32le", decoded)
            size = packet_bytes(coded.read_bytes())
            data, _ = soundfile.read(decoded, dtype="float32", always_2d=True)
        measured = size * 8 / (wav.shape[-1] / sample_rate) / 1000
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


def _run(*command: str | Path) -> None:
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
        raise ChildProcessError(f"{command[0]} failed ({result.returncode}): {lines[-1]}")
