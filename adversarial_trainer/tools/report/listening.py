"""Players and spectrograms of wav files, stored inside of the page and limited in size."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import soundfile
import torch

from adversarial_trainer import audio

from .pictures import PNG_DB, spectrogram_png

AUDIO_BYTES = 18_000_000  # of players and spectrograms on a page
MAX_FILES = 8  # with players on a page
MAX_SECONDS = 10.0  # of a file
CAPTION = (
    f"Spectrograms go from {PNG_DB[0]:g} dB (black) to {PNG_DB[1]:g} dB (bright) of a full-scale "
    "sine. Good: what is in the original is there, and nothing else."
)


class Player(NamedTuple):
    """A player with a spectrogram, whose files are data URIs; `seconds` and `rate` in Hz."""

    title: str
    sound: str
    picture: str
    seconds: float
    rate: int


class Listening(NamedTuple):
    """Players of a page.

    Attributes:
        rows: (file, players) of what is to be compared.
        remarks: sentences about what is not on the page.
    """

    rows: list[tuple[str, list[Player]]]
    remarks: list[str]


def make_players(files: Mapping[str, Mapping[str, Path]]) -> Listening:
    """Make players of the first files, while there is room.

    Args:
        files: name of a file -> title of a version -> wav file.
    """
    made, room, left_out, cut = Listening([], []), AUDIO_BYTES, 0, 0
    for name, versions in list(files.items())[:MAX_FILES]:
        players = []
        for title, path in versions.items():
            if room <= 0:  # nothing follows what had no room, so that a page has the first files
                left_out += 1
                continue
            try:
                player = _player(title, path)
                cut += audio.info(path).duration > MAX_SECONDS + 1e-3
            except (OSError, ValueError, soundfile.SoundFileError) as error:
                made.remarks.append(f"A sample could not be read: {error}")
                continue
            room -= len(player.sound) + len(player.picture)
            if room > 0:
                players.append(player)
            else:
                left_out += 1
        if players:
            made.rows.append((name, players))
    if cut:
        made.remarks.append(f"{cut} of the files are longer than the {MAX_SECONDS:g} s shown here.")
    if left_out:
        made.remarks.append(
            f"{left_out} more players would make the page too large; the wav files are in the "
            "run's folder."
        )
    if len(files) > MAX_FILES:
        made.remarks.append(f"{len(files) - MAX_FILES} more files are in the run's folder.")
    return made


def _player(title: str, path: Path) -> Player:
    wav, rate = audio.read(path, duration=MAX_SECONDS)
    if wav.shape[-1] == 0:
        raise ValueError(f"{path}: a sample without samples")
    sound = _data_uri("audio/flac", _flac(wav, rate))
    picture = _data_uri("image/png", spectrogram_png(wav))
    return Player(title, sound, picture, wav.shape[-1] / rate, rate)


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _flac(wav: torch.Tensor, rate: int) -> bytes:
    """Return `wav` `[C, T]` as a FLAC file: lossless, and every browser plays it. More than two
    channels are mixed."""
    wav = wav if wav.shape[0] <= 2 else wav.mean(0, keepdim=True)
    buffer = io.BytesIO()
    samples = audio.to_subtype(wav.clamp(-1, 1).double().numpy().T, "PCM_16")
    soundfile.write(buffer, samples, rate, "PCM_16", format="FLAC")
    return buffer.getvalue()
