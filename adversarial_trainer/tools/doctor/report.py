"""Examine all files of a folder or manifest, find copies among them, and split them."""

from __future__ import annotations

import filecmp
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from adversarial_trainer.data import (
    DEFAULT_SHARES,
    AudioMeta,
    Skipped,
    is_manifest,
    load_manifest,
    split,
)
from adversarial_trainer.data.checking import check
from adversarial_trainer.data.scanning import Listing, list_files
from adversarial_trainer.data.splitting import check_shares

from .stats import FileStats, StatsMeter


@dataclass(frozen=True)
class AudioFile:
    """A usable file.

    Attributes:
        path, stats: the file and its statistics.
        stages: those it serves; more than one in the smallest folders only.
        declared: its duration in a manifest, in seconds.
    """

    path: str
    stats: FileStats
    stages: tuple[str, ...]
    declared: float | None = None


@dataclass
class Report:
    """The result of an examination.

    Attributes:
        source: folder or manifest; `root` is the folder that paths are shown relative to.
        files: the usable ones, sorted by path (in a manifest's order).
        skipped: those that training leaves out, with the reason; sorted by path.
        shares: of the split.
        others: number of files of each extension that is no audio.
        copies: groups of files with the same samples, indices into `files`.
        same_bytes: for each of `copies`, whether the files themselves are equal.
    """

    source: str
    root: str
    files: list[AudioFile]
    skipped: list[Skipped]
    shares: Mapping[str, float]
    others: Counter[str] = field(default_factory=Counter)
    copies: list[list[int]] = field(default_factory=list)
    same_bytes: list[bool] = field(default_factory=list)

    @property
    def leaks(self) -> list[list[int]]:
        """The copies of which one is used for training and another is held out."""
        return [
            group
            for group in self.copies
            if len({"train" in self.files[n].stages for n in group}) == 2
        ]


def examine(
    source: str | Path,
    shares: Mapping[str, float] = DEFAULT_SHARES,
    workers: int | None = None,
    progress: bool | None = None,
) -> Report:
    """Examine every file. Writes nothing.

    Args:
        source: a folder or a manifest, as `dset.path`.
        shares: of the stages, as `dset.shares`.
        workers: threads; by default one a core.
        progress: a bar on stderr; None: if that is a terminal.
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
    results = _examine_files(paths, workers or os.cpu_count() or 1, progress)
    metas = [declared.get(r.path, r) for r, _ in results if isinstance(r, AudioMeta)]
    stages: dict[str, list[str]] = {}
    for stage, members in (split(metas, root, shares) if metas else {}).items():
        for meta in members:
            stages.setdefault(meta.path, []).append(stage)
    files = [
        AudioFile(
            meta.path, stats, tuple(stages[meta.path]), declared[meta.path].duration
            if declared else None,
        )
        for meta, stats in results
        if isinstance(meta, AudioMeta) and stats is not None
    ]  # fmt: skip
    skipped = listing.skipped + [result for result, _ in results if isinstance(result, Skipped)]
    report = Report(source, root, files, sorted(skipped), shares, listing.others)
    groups: dict[bytes, list[int]] = {}
    for number, file in enumerate(files):
        groups.setdefault(file.stats.digest, []).append(number)
    report.copies = [group for group in groups.values() if len(group) > 1]
    report.same_bytes = [_same_bytes([files[n].path for n in group]) for group in report.copies]
    return report


def _examine_files(
    paths: Sequence[str], workers: int, progress: bool | None
) -> list[tuple[AudioMeta | Skipped, FileStats | None]]:
    """Examine in parallel; threads do, since decoding and numpy release the interpreter's lock."""
    results = []
    disable = None if progress is None else not progress
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(paths), desc="doctor", unit="file", disable=disable) as bar,
    ):
        pending = iter(paths)
        while chunk := list(islice(pending, 1024)):  # bounds what Ctrl-C waits for
            for result in pool.map(examine_file, chunk):
                bar.update()
                results.append(result)
    return results


def examine_file(path: str) -> tuple[AudioMeta | Skipped, FileStats | None]:
    """Check a file as a scan does; return the result, and the statistics if it is usable."""
    meter: StatsMeter | None = None

    def observe(file: soundfile.SoundFile, block: np.ndarray) -> None:
        nonlocal meter
        meter = meter or StatsMeter(file)
        meter.add(block)

    checked = check(path, observe)
    if isinstance(checked, Skipped) or meter is None:
        return checked, None
    return checked, meter.result()


def _same_bytes(paths: list[str]) -> bool:
    try:
        return all(filecmp.cmp(paths[0], path, shallow=False) for path in paths[1:])
    except OSError:  # deleted since
        return False
