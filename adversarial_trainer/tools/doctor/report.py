"""Examine all files of a folder or manifest, find copies among them, and split them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from adversarial_trainer.data import (
    DEFAULT_SHARES,
    AudioMeta,
    Skipped,
    is_manifest,
    load_manifest,
    split,
)
from adversarial_trainer.data.checking import check
from adversarial_trainer.data.scanning import Listing, list_files, map_files
from adversarial_trainer.data.splitting import check_shares

from .stats import FileStats, StatsMeter


@dataclass(frozen=True)
class AudioFile:
    """A usable file.

    Attributes:
        path, stats: the file and its statistics.
        stages: those it serves; more than one in the smallest folders only.
        declared: its duration in seconds, as a manifest says; else as it is.
    """

    path: str
    stats: FileStats
    stages: tuple[str, ...]
    declared: float


@dataclass
class Report:
    """The result of an examination.

    Attributes:
        source: folder or manifest; `root` is the folder that paths are shown relative to.
        files: the usable ones, sorted by path (in a manifest's order).
        skipped: those that training leaves out, with the reason; sorted by path.
        shares: of the split.
        others: number of files of each extension that is no audio.
    """

    source: str
    root: str
    files: list[AudioFile]
    skipped: list[Skipped]
    shares: Mapping[str, float]
    others: Counter[str]

    @property
    def copies(self) -> list[list[AudioFile]]:
        """Groups of files with the same samples."""
        groups: dict[bytes, list[AudioFile]] = {}
        for file in self.files:
            groups.setdefault(file.stats.digest, []).append(file)
        return [group for group in groups.values() if len(group) > 1]

    @property
    def leaks(self) -> list[list[AudioFile]]:
        """The copies of which one is used for training and another is held out."""
        return [g for g in self.copies if len({"train" in file.stages for file in g}) == 2]


def examine(
    source: str | Path,
    shares: Mapping[str, float] = DEFAULT_SHARES,
    workers: int | None = None,
    progress: bool = True,
) -> Report:
    """Examine every file. Writes nothing.

    Args:
        source: a folder or a manifest, as `dset.path`.
        shares: of the stages, as `dset.shares`.
        workers: threads; by default one a core.
        progress: a bar on stderr.
    Raises:
        FileNotFoundError, ValueError: there is no such folder, no audio file in it, or the shares
            or the manifest are wrong.
    """
    check_shares(shares)
    source = str(source)
    declared: dict[str, AudioMeta] = {}
    if is_manifest(source) and not os.path.isdir(source):
        declared = {meta.path: meta for meta in load_manifest(source, "FOLDER")}
        root, listing, paths = os.path.dirname(os.path.abspath(source)), Listing(), list(declared)
    else:
        root, listing = os.path.abspath(source), list_files(source, "FOLDER")
        paths = sorted(listing.files)
        if not paths and not listing.skipped:
            raise ValueError(f"{source!r}: {listing.describe_empty()}")
    usable: list[tuple[AudioMeta, FileStats]] = []
    skipped = listing.skipped
    for result, stats in map_files(examine_file, paths, "doctor", workers, progress):
        if isinstance(result, Skipped):
            skipped.append(result)
        elif stats is not None:
            usable.append((declared.get(result.path, result), stats))
    stages: dict[str, list[str]] = {meta.path: [] for meta, _ in usable}
    for stage, members in (split([m for m, _ in usable], root, shares) if usable else {}).items():
        for meta in members:
            stages[meta.path].append(stage)
    files = [
        AudioFile(meta.path, stats, tuple(stages[meta.path]), meta.duration)
        for meta, stats in usable
    ]
    return Report(source, root, files, sorted(skipped), shares, listing.others)


def examine_file(path: str) -> tuple[AudioMeta | Skipped, FileStats | None]:
    """Check a file as a scan does; return the result, and the statistics if it is usable."""
    meters: list[StatsMeter] = []

    def observe(file: soundfile.SoundFile, block: np.ndarray) -> None:
        if not meters:
            meters.append(StatsMeter(file))
        meters[0].add(block)

    result = check(path, observe)
    return (result, None) if isinstance(result, Skipped) else (result, meters[0].result())
