"""Players and spectrograms of wav files, inside the page and within its size."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
import torch

from adversarial_trainer import audio
from adversarial_trainer.tools.report.pictures import PNG_DB, spectrogram_png

from .html import data_uri, duration, esc

AUDIO_BYTES = 18_000_000  # of players and spectrograms on a page
MAX_FILES = 8  # of a run that a page has players for
MAX_SECONDS = 10.0  # of a file
CAPTION = (
    f"Spectrograms go from {PNG_DB[0]:g} dB (black) to {PNG_DB[1]:g} dB (bright) of a full-scale "
    "sine. Good: what is in the original is there, and nothing else."
)


@dataclass
class Listening:
    """Makes players while there is room.

    Attributes:
        room: bytes left.
        left_out: players that had none.
        cut: files longer than a player.
        broken: why files could not be read.
    """

    room: int = field(default_factory=lambda: AUDIO_BYTES)
    left_out: int = 0
    cut: int = 0
    broken: list[str] = field(default_factory=list)

    def player(self, path: Path, title: str, what: str) -> str:
        """A cell with a title, a player and a spectrogram; `what` names it for screen readers."""
        if self.room <= 0:
            self.left_out += 1
            return ""
        try:
            wav, rate = audio.read(path, duration=MAX_SECONDS)
            length = audio.info(path).duration
            sound, picture = _flac(wav, rate), spectrogram_png(wav)
        except (OSError, ValueError, soundfile.SoundFileError) as error:
            self.broken.append(str(error))
            return ""
        self.cut += length > MAX_SECONDS + 1e-3
        sources = data_uri("audio/flac", sound), data_uri("image/png", picture)
        self.room -= len(sources[0]) + len(sources[1])
        if self.room < 0:
            self.left_out += 1
            self.room = 0  # and none after it: what is there is there from the beginning on
            return ""
        return (
            f"<div class=version><h4>{esc(title)}</h4>\n"
            f'<audio controls preload="metadata" aria-label="{esc(what)}" src="{sources[0]}">'
            "</audio>\n"
            f'<div class=picture><img alt="Spectrogram, {esc(what)}" src="{sources[1]}">'
            f"<i></i></div><small>0 to {duration(wav.shape[-1] / rate)}, "
            f"0 to {rate / 2000:g} kHz</small></div>\n"
        )

    def remarks(self) -> list[str]:
        """What is not on the page, in sentences."""
        said = [f"A sample could not be read: {reason}" for reason in self.broken]
        if self.cut:
            said.append(
                f"{self.cut} of the files are longer than the {MAX_SECONDS:g} s that are here."
            )
        if self.left_out:
            said.append(
                f"{self.left_out} more players would make the page too large; the wav files are in "
                "the run's folder."
            )
        return said


def _flac(wav: torch.Tensor, rate: int) -> bytes:
    """Lossless, and every browser plays it. `[C, T]`; FLAC takes up to 8 channels."""
    if wav.shape[-1] == 0:
        raise ValueError("a sample without samples")
    wav = wav if wav.shape[0] <= 2 else wav.mean(0, keepdim=True)
    buffer = io.BytesIO()
    samples = audio.to_subtype(wav.clamp(-1, 1).double().numpy().T, "PCM_16")
    soundfile.write(buffer, samples, rate, "PCM_16", format="FLAC")
    return buffer.getvalue()
