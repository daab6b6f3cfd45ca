"""Statistics of audio files, computed block by block while they are decoded."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from adversarial_trainer.data import AudioMeta, Skipped, find_manifest, load_manifest, split
from adversarial_trainer.data.decoding import check
from adversarial_trainer.data.scanning import list_files, map_files

from .bandwidth import BandwidthMeter

# RMS below which a stretch of 0.1 s is silence, in dBFS: below the noise of any room.
SILENCE = -60.0
SILENCE_WINDOW = 0.1  # seconds
# Three equal samples in a row at the top are clipped (-0.09 dBFS, which 8 bits reach as well).
CLIP_LEVEL = 0.99
CLIP_RUN = 3


@dataclass
class AudioFile:
    """A usable file.

    Attributes:
        path: of the file.
        format: of the file and its samples, `WAV PCM_16`.
        sample_rate, channels, seconds: in Hz; number; duration as decoded.
        peak, rms: against full scale, over all channels.
        offset: the largest mean of a channel, against full scale.
        silence, clipped: shares of the file's time and of its samples, 0 to 1.
        bandwidth: frequency in Hz where content ends; half the sample rate if no end is found.
        digest: of the rate and the decoded samples; equal for a wav and its flac.
        stages: those it serves; more than one in the smallest folders only.
        declared: its duration in seconds in a manifest, if it comes from one.
    """

    path: str
    format: str
    sample_rate: int
    channels: int
    seconds: float
    peak: float
    rms: float
    offset: float
    silence: float
    clipped: float
    bandwidth: float
    digest: str
    stages: list[str] = field(default_factory=list)
    declared: float | None = None


class Meter:
    """Accumulates the statistics of a file from its blocks.

    Blocks are measured one by one: windows and runs of clipped samples end with a block.
    """

    def __init__(self) -> None:
        self.frames = self.silent = self.clipped = 0
        self.peak = self.square = 0.0

    def add(self, file: soundfile.SoundFile, block: np.ndarray) -> None:
        """Add the next samples of the open file, `[n, C]`."""
        if self.frames == 0:
            self.format = f"{file.format} {file.subtype}"
            self.rate, self.channels = file.samplerate, file.channels
            self.bandwidth = BandwidthMeter(self.rate)
            self.digest = hashlib.blake2b(f"{self.rate} {self.channels}".encode(), digest_size=16)
            self.sums = np.zeros(self.channels)
        self.digest.update((block + np.float32(0)).data)  # the sum turns -0 into 0
        self.frames += len(block)
        peak = float(np.abs(block).max())
        self.peak = max(self.peak, peak)
        self.sums += block.sum(axis=0, dtype=np.float64)
        if peak >= CLIP_LEVEL:
            self.clipped += count_clipped(block)
        window = max(1, round(SILENCE_WINDOW * self.rate))
        starts = np.arange(0, len(block), window)
        squares = np.add.reduceat(np.square(block), starts, axis=0)  # [windows, C]
        lengths = np.diff(starts, append=len(block))
        self.square += float(squares.sum(dtype=np.float64))
        # A window is silent if all channels are.
        self.silent += int(lengths[squares.max(axis=1) < lengths * 10 ** (SILENCE / 10)].sum())
        self.bandwidth.add(block.mean(axis=1))

    def result(self, path: str) -> AudioFile:
        """Return the statistics at the end of the file."""
        samples = self.frames * self.channels
        return AudioFile(
            path=path,
            format=self.format,
            sample_rate=self.rate,
            channels=self.channels,
            seconds=self.frames / self.rate,
            peak=self.peak,
            rms=math.sqrt(self.square / samples),
            offset=float(np.abs(self.sums).max()) / self.frames,
            silence=self.silent / self.frames,
            clipped=self.clipped / samples,
            bandwidth=self.bandwidth.cutoff(),
            digest=self.digest.hexdigest(),
        )


def examine_file(path: str) -> AudioFile | Skipped:
    """Check a file as a scan does; return its statistics, or the reason to leave it out."""
    meter = Meter()
    result = check(path, meter.add)
    return result if isinstance(result, Skipped) else meter.result(path)


def count_clipped(block: np.ndarray) -> int:
    """Count the samples of `[n, C]` in runs that stay at the top or exceed full scale."""
    magnitude = np.abs(block[1:])
    equal = block[1:] == block[:-1]
    stays = (magnitude > 1) | ((magnitude >= CLIP_LEVEL) & equal)
    count = 0
    for channel in stays.T:
        edges = np.flatnonzero(np.diff(channel, prepend=False, append=False))
        lengths = edges[1::2] - edges[::2] + 1  # with the sample that the first one equals
        count += int(lengths[lengths >= CLIP_RUN].sum())
    return count


def decibels(amplitude: float) -> float:
    """Convert an amplitude to dB against full scale, at least -200."""
    return 20 * math.log10(max(amplitude, 1e-10))


@dataclass
class Report:
    """The result of an examination.

    Attributes:
        source: folder or manifest; `root` is the folder that paths are shown relative to.
        files: the usable ones, sorted by path (in a manifest's order).
        skipped: those that training leaves out, with the reason; sorted by path.
    """

    source: str
    root: str
    files: list[AudioFile]
    skipped: list[Skipped]


def examine(source: str | Path, workers: int | None = None, progress: bool = True) -> Report:
    """Examine every file. Writes nothing.

    Args:
        source: a folder or a manifest, as `dset.path`.
        workers: threads; by default one a core.
        progress: a bar on stderr.
    Raises:
        FileNotFoundError, ValueError: there is no such folder, no audio file in it, or the manifest
            is wrong.
    """
    source = str(source)
    declared: dict[str, float] = {}
    skipped: list[Skipped] = []
    if (manifest := find_manifest(source)) is not None:
        declared = {meta.path: meta.duration for meta in load_manifest(source, "FOLDER")}
        root, paths = os.path.dirname(os.path.abspath(manifest)), list(declared)
    else:
        listed, skipped = list_files(source, "FOLDER")
        root, paths = os.path.abspath(source), sorted(listed)
    files: dict[str, AudioFile] = {}
    for result in map_files(examine_file, paths, "doctor", workers, progress):
        if isinstance(result, Skipped):
            skipped.append(result)
        else:
            result.declared = declared.get(result.path)
            files[result.path] = result
    metas = [AudioMeta(path, file.seconds, file.sample_rate) for path, file in files.items()]
    for stage, members in (split(metas, root) if metas else {}).items():
        for meta in members:
            files[meta.path].stages.append(stage)
    return Report(source, root, list(files.values()), sorted(skipped))
