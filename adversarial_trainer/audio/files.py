"""Read and write audio files with soundfile; torchaudio has had no reader since 2.9."""

from __future__ import annotations

import itertools
import logging
import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch

from .containers import find_fault

logger = logging.getLogger(__name__)

# Extensions of audio files: the formats that libsndfile reads by itself.
EXTENSIONS = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aiff .aif .aifc .au .snd .caf .w64 .rf64".split()
)
# Audio that it cannot read: named where it is met, which other files are not.
UNSUPPORTED = frozenset(".m4a .mp4 .aac .wma .ape .mka .webm .amr .ac3 .dsf .wv".split())
# Extensions whose libsndfile format has another name.
_FORMATS = {".opus": "OGG", ".oga": "OGG", ".aif": "AIFF", ".aifc": "AIFF", ".snd": "AU"}
# Vorbis and Opus order channels by the Vorbis specification, section 4.3.9: where those of a wav's
# order (see resampling.py) stand.
_VORBIS_ORDER = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
_PCM_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


class AudioError(ValueError):
    """An audio file that cannot be read; has its `path` and the `reason`."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = str(path), reason

    def __str__(self) -> str:
        return f"{self.path!r}: {self.reason}"


class AudioInfo(NamedTuple):
    """Contents of a header: rate in Hz, frames (samples per channel), duration in seconds."""

    sample_rate: int
    channels: int
    frames: int
    duration: float


@contextmanager
def open_audio(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """Open a file for reading; any failure inside the block names the file.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: it is not a regular file, or soundfile cannot decode it.
    """
    # Opening a FIFO would wait for ever, and a folder gives a poor message.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise AudioError(path, "not a regular file")
    try:
        # As bytes, because soundfile cannot encode names that are not UTF-8.
        file = soundfile.SoundFile(os.fsencode(path))
    except soundfile.SoundFileError as error:
        reason = str(error).strip().rsplit("': ", 1)[-1]
        if not os.access(path, os.R_OK):
            reason = "permission denied"
        elif reason.startswith("File does not exist"):  # libsndfile, of text called .mp3
            reason = "Format not recognised."
        raise AudioError(path, reason) from error
    with file:
        if file.frames >= 1 << 62:
            raise AudioError(path, "the header does not tell the length; encode the file again")
        if not file.seekable():  # GSM 6.10, G.721 and their like
            raise AudioError(path, f"{file.subtype} can only be read as a whole; encode it again")
        try:
            yield file
        except (soundfile.SoundFileError, MemoryError) as error:
            raise AudioError(path, str(error).strip()) from error


def read_frames(file: soundfile.SoundFile, start: int = 0, frames: int | None = None) -> np.ndarray:
    """Read frames `start` to `start + frames`, fewer at the file's end; float32 `[n, C]`.

    Channels are in a wav's order, whatever the file's.
    """
    left = max(0, file.frames - start)
    count = left if frames is None else min(left, frames)
    if count and file.tell() != start:
        # libsndfile's seek in Vorbis is wrong by up to 2048 frames in the last page.
        last = max(0, file.frames - (1 << 16)) if file.subtype == "VORBIS" else start
        file.seek(min(start, last))
        if last < start:
            file.read(start - last)
    if file.subtype == "PCM_16" and file.format != "FLAC":
        # 2.6 times as fast as libsndfile's own conversion.
        integers = file.read(count, dtype="int16", always_2d=True)
        return np.multiply(integers, np.float32(2**-15), dtype=np.float32)
    data = file.read(count, dtype="float32", always_2d=True)
    order = _vorbis_order(file)
    return data if order is None else data[:, order]


def _vorbis_order(file: soundfile.SoundFile) -> tuple[int, ...] | None:
    return _VORBIS_ORDER.get(file.channels) if file.subtype in ("VORBIS", "OPUS") else None


def info(path: str | Path) -> AudioInfo:
    """Read the header of a file. Raises as `open_audio` does."""
    with open_audio(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames, file.frames / file.samplerate)


def read(path: str | Path, duration: float | None = None) -> tuple[torch.Tensor, int]:
    """Read a file, or its first `duration` seconds.

    Returns:
        `(wav, sample_rate)` with `wav` float32 of shape `[C, T]`.
    """
    with open_audio(path) as file:
        rate = file.samplerate
        frames = None if duration is None else round(duration * rate)
        data = read_frames(file, 0, frames)
    return torch.from_numpy(data.T.copy()), rate  # [T, C] -> [C, T]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`, renamed to `path` if the block succeeds.

    Readers see the old file or the new one, never a part of it. Makes missing parent folders.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def choose_format(path: str | Path, subtype: str | None = None) -> tuple[str, str]:
    """Return libsndfile's format and subtype for the extension of a path.

    Args:
        subtype: None for PCM_16 in wav, flac and the like, Vorbis or Opus inside ogg.
    Raises:
        ValueError: the extension is unknown, or its format does not have the subtype.
    """
    suffix = Path(path).suffix.lower()
    format_ = _FORMATS.get(suffix, suffix[1:].upper())
    if format_ not in soundfile.available_formats() or format_ == "RAW":
        choices = ", ".join(sorted(EXTENSIONS))
        raise ValueError(f"{path}: cannot write {suffix!r}. Choices: {choices}")
    default = "OPUS" if suffix == ".opus" else soundfile.default_subtype(format_)
    subtype = subtype or default
    if not soundfile.check_format(format_, subtype):
        choices = ", ".join(sorted(soundfile.available_subtypes(format_)))
        raise ValueError(f"{path}: no subtype {subtype}: {format_} files have {choices}")
    return format_, subtype


def to_subtype(data: np.ndarray, subtype: str) -> np.ndarray:
    """Convert float samples to integers for n-bit PCM; return them unchanged for other subtypes.

    The n highest bits hold the value, which libsndfile stores as it is. Its own conversion scales
    by 2^(n-1) - 1, which is not what its reader divides by.
    """
    bits = _PCM_BITS.get(subtype)
    if bits is None:
        return data
    scale = 2 ** (bits - 1)
    integers = np.rint(data * scale).clip(-scale, scale - 1).astype(np.int64)
    return (integers << (32 - bits)).astype(np.int32)


def all_blocks(file: soundfile.SoundFile, size: int) -> Iterator[np.ndarray]:
    """Yield the frames of an open file in blocks of `size`, float32 `[n, C]`.

    Raises AudioError if libsndfile does not read all of the file, or (`truncated: ...`) if some is
    missing at its end, at once or only when that is reached.
    """
    path, mpeg = os.fsdecode(file.name), file.subtype.startswith("MPEG")
    if fault := find_fault(path, file.frames, file.samplerate, mpeg):
        raise AudioError(path, fault)
    frames = 0
    while len(block := read_frames(file, frames, max(1, size))):
        frames += len(block)
        yield block
    if frames < file.frames and not mpeg:  # whose length may be a guess, and is compared above
        raise AudioError(path, f"truncated: {frames} of {file.frames} samples decode")


def read_blocks(path: str | Path, seconds: float = 1.0) -> Iterator[torch.Tensor]:
    """Yield the audio of a file as float32 blocks `[C, T]`; `info` knows its rate.

    Raises as `open_audio` and `all_blocks` do, where a file is broken inside only when that is
    reached.
    """
    with open_audio(path) as file:
        for block in all_blocks(file, round(seconds * file.samplerate)):
            yield torch.from_numpy(block.T.copy())  # [T, C] -> [C, T]


def write(
    path: str | Path, wav: torch.Tensor, sample_rate: int, subtype: str | None = None
) -> None:
    """Write `wav`, `[C, T]`; see `write_blocks`. Samples of an n-bit file that `read` gave come
    back bit for bit."""
    if wav.dim() != 2 or wav.shape[0] < 1:
        raise ValueError(f"wav must have shape [channels, time], got {tuple(wav.shape)}")
    write_blocks(path, [wav], sample_rate, subtype)


def write_blocks(
    path: str | Path, blocks: Iterable[torch.Tensor], sample_rate: int, subtype: str | None = None
) -> None:
    """Write blocks `[C, T]` in the format of the path's extension; atomic. See `to_samples`.

    Args:
        subtype: a soundfile subtype; by default PCM_16 for wav, flac and the like, Vorbis or Opus
            inside ogg.
    """
    format_, subtype = choose_format(path, subtype)
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        raise ValueError(f"{path}: nothing to write")
    blocks = itertools.chain([first], blocks)
    with replacing(path) as temporary:
        try:
            file = soundfile.SoundFile(
                os.fsencode(temporary), "w", sample_rate, first.shape[0], subtype, format=format_
            )
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        try:
            with file:
                for data in to_samples(blocks, sample_rate, subtype, str(path)):
                    if (order := _vorbis_order(file)) is not None:
                        data = data[:, np.argsort(order)]
                    # libsndfile's Vorbis encoder overflows the stack on long ones.
                    for begin in range(0, len(data), 1 << 16):
                        file.write(np.ascontiguousarray(data[begin : begin + (1 << 16)]))
        except soundfile.SoundFileError as error:
            raise OSError(f"{path}: writing fails ({error}); is the disk full?") from error


def to_samples(
    blocks: Iterable[torch.Tensor], sample_rate: int, subtype: str, name: str
) -> Iterator[np.ndarray]:
    """Yield blocks `[C, T]` as `to_subtype` has them, `[T, C]`; ValueError for NaN or Inf.

    Samples beyond [-1, 1] are limited, with a warning at the end that has the `name` of the file;
    float subtypes keep them.
    """
    length, limited, peak = 0, 0, 0.0
    for block in blocks:
        check_finite(block, length, sample_rate)
        data = block.detach().to("cpu", torch.float64).numpy().T  # [C, T] -> [T, C]
        length += len(data)
        if subtype not in ("FLOAT", "DOUBLE"):
            peak = max(peak, float(np.abs(data).max(initial=0.0)))
            limited += int((np.abs(data) > 1).sum())
            data = data.clip(-1, 1)
        yield to_subtype(data, subtype)
    if limited:
        logger.warning("%s: limited %d samples beyond [-1, 1], peak %.3f", name, limited, peak)


def check_finite(x: torch.Tensor, start: int, sample_rate: int) -> None:
    """Raise ValueError, with the place, if a signal's samples `x` [..., C, T] from `start` on have
    NaN or Inf."""
    if x.isfinite().all():
        return
    bad = (~x.isfinite()).flatten(0, -2)  # [... C, T]
    time = int(bad.any(0).nonzero()[0])
    row = int(bad[:, time].nonzero()[0])
    raise ValueError(
        f"sample {start + time} of channel {row % x.shape[-2]} is "
        f"{float(x.flatten(0, -2)[row, time])}, at {(start + time) / sample_rate:.6g} s; "
        "audio must be finite"
    )
