"""Look at one file: the scan's check, with meters that listen while it decodes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import soundfile

from adversarial_trainer.data.checking import check
from adversarial_trainer.data.scan_cache import Entry

from .bandwidth import BandwidthMeter
from .fingerprint import Fingerprinter
from .levels import LevelMeter
from .spectrum import Frames


@dataclass(frozen=True)
class Facts:
    """What is known of a usable file.

    Attributes:
        format: of the file and its samples, `WAV PCM_16`.
        frames: samples per channel.
        peak, rms, offset: against full scale; `offset` is the mean.
        silence, clipped: shares of the file's time and of its samples, 0 to 1.
        bandwidth: content ends there, in Hz; half the sample rate where no end is seen.
        digest: of rate and decoded samples; equal for a wav and its flac.
        hashes, times: the fingerprint.
    """

    format: str
    sample_rate: int
    channels: int
    frames: int
    peak: float
    rms: float
    offset: float
    silence: float
    clipped: float
    bandwidth: float
    digest: bytes
    hashes: np.ndarray
    times: np.ndarray

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.sample_rate


class Examination:
    """Listens to a file's blocks."""

    def __init__(self, file: soundfile.SoundFile) -> None:
        self.format = f"{file.format} {file.subtype}"
        self.rate, self.channels = file.samplerate, file.channels
        self.levels = LevelMeter(self.rate, self.channels)
        self.frames = Frames(self.rate)
        self.bandwidth = BandwidthMeter(self.rate)
        self.fingerprint = Fingerprinter()
        self.digest = hashlib.blake2b(f"{self.rate} {self.channels}".encode(), digest_size=16)

    def add(self, block: np.ndarray) -> None:
        """Take in samples `[n, C]`."""
        self.digest.update((block + np.float32(0)).data)  # which turns -0 into 0
        channels = np.ascontiguousarray(block.T)  # [n, C] -> [C, n]
        self.levels.add(channels)
        for powers in self.frames.add(channels.mean(axis=0)):
            self._listen(powers)

    def facts(self) -> Facts:
        """At the end of the file."""
        self.levels.finish()
        for powers in self.frames.flush():
            self._listen(powers)
        hashes, times = self.fingerprint.sketch()
        levels = self.levels
        return Facts(
            format=self.format,
            sample_rate=self.rate,
            channels=self.channels,
            frames=levels.frames,
            peak=levels.peak,
            rms=levels.rms,
            offset=levels.offset,
            silence=levels.silence,
            clipped=levels.clipped,
            bandwidth=self.bandwidth.cutoff(),
            digest=self.digest.digest(),
            hashes=hashes,
            times=times,
        )

    def _listen(self, powers: np.ndarray) -> None:
        self.bandwidth.add(powers)
        self.fingerprint.add(powers)


def examine(entry: Entry) -> tuple[Entry, Facts | None]:
    """The entry as `check` leaves it, and the facts if the file is usable."""
    examination: Examination | None = None

    def observe(file: soundfile.SoundFile, block: np.ndarray) -> None:
        nonlocal examination
        examination = examination or Examination(file)
        examination.add(block)

    checked = check(entry, observe)
    if checked.meta is None or examination is None:
        return checked, None
    return checked, examination.facts()
