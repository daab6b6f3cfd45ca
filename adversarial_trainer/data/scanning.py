"""Find the audio files of a folder and check each by decoding it once."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from adversarial_trainer.audio import replacing

from .checking import check
from .listing import Skipped, list_files
from .manifest import AudioMeta, save_manifest
from .scan_cache import Entry, load_index, save_index

logger = logging.getLogger(__name__)


@dataclass
class ScanReport:
    """What a scan found.

    Attributes:
        files: the usable ones, sorted by path.
        skipped: those left out, sorted by path.
        reused: how many results came from the cache.
        report_path: where the full list of `skipped` was written, if there is a cache.
    """

    files: list[AudioMeta]
    skipped: list[Skipped] = field(default_factory=list)
    reused: int = 0
    report_path: Path | None = None

    def summary(self) -> str:
        """One line: how many files, how long, how many left out and why."""
        hours = sum(meta.duration for meta in self.files) / 3600
        length = f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
        line = f"{len(self.files)} usable files, {length}"
        if self.skipped:
            line += f"; {len(self.skipped)} skipped ({self.reasons()})"
        return line

    def reasons(self) -> str:
        """`3 unreadable, 1 silent`, the most frequent first."""
        kinds = Counter(skipped.kind for skipped in self.skipped)
        return ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items(), key=_by_count))


def scan(
    folder: str | Path,
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    name: str = "dset.path",
) -> ScanReport:
    """List the usable audio files below `folder`, following links, each file once.

    Every file is decoded to its end. Left out, with the reason: unreadable, empty, truncated,
    shorter than 10 ms, with samples that are NaN, Inf or far out of range, silent all through (a
    constant counts), of a sample rate outside 1 to 768 kHz, of a format that libsndfile lacks or
    cannot read in parts, a second name of a file.

    Args:
        cache_dir: where to keep the result, as an AudioCraft manifest with an index beside it that
            tells changed, added and removed files by size and modification time. Nothing is
            written where the audio is, unless that is what the caller says here.
        workers: threads; by default two a core. Threads do, because libsndfile and numpy release
            the interpreter's lock while they work.
        name: the configuration key the folder comes from, for messages.
    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no usable file.
    """
    root = os.path.abspath(folder)
    index_path = None if cache_dir is None else cache_path(root, cache_dir, ".index.jsonl")
    known = {} if index_path is None else load_index(index_path, root)
    found: dict[str, Entry] = {}
    reused = 0
    todo: list[Entry] = []
    listing = list_files(str(folder), name)
    for entry in listing.entries:
        old = known.get(entry.path)
        # What a change of permissions can mend is tried again.
        if old and old.stamp == entry.stamp and not (old.skipped or "").startswith("unreadable"):
            found[entry.path] = old
            reused += 1
        else:
            todo.append(entry)
    workers = workers or min(32, 2 * (os.cpu_count() or 1))
    quiet = not progress or not todo
    try:
        with (
            ThreadPoolExecutor(workers) as pool,
            tqdm(total=len(todo), desc="scan", unit="file", disable=quiet) as bar,
        ):
            pending = iter(todo)
            while chunk := list(islice(pending, 4096)):  # bounds the queue and what Ctrl-C loses
                for checked in pool.map(check, chunk):
                    found[checked.path] = checked
                    bar.update()
    finally:
        changed = bool(todo) or found.keys() != known.keys()
        # An interrupted scan goes on from here next time.
        if index_path is not None and changed:
            save_index(index_path, root, found.values())
    ordered = [found[path] for path in sorted(found)]
    report = ScanReport(
        files=[entry.meta for entry in ordered if entry.meta is not None],
        skipped=sorted(
            [Skipped(e.path, e.skipped) for e in ordered if e.skipped] + listing.skipped
        ),
        reused=reused,
    )
    if cache_dir is not None:
        report.report_path = cache_path(root, cache_dir, ".skipped.txt")
        _write_report(report.report_path, report.skipped)
        manifest = cache_path(root, cache_dir)
        if changed or not manifest.exists():
            save_manifest(manifest, report.files)
    where = f"; see {report.report_path}" if report.report_path and report.skipped else ""
    logger.info("%s: %s%s", root, report.summary(), where)
    if not report.files:
        found_nothing = listing.nothing()
        if report.skipped:
            count = len(report.skipped)
            found_nothing = f"none of {count} audio files is usable: {report.reasons()}"
        raise ValueError(f"{name}={str(folder)!r}: {found_nothing}{where}")
    return report


def cache_path(folder: str | Path, cache_dir: str | Path, suffix: str = ".jsonl") -> Path:
    """Where `scan` keeps the manifest (or what the suffix says) of `folder`."""
    root = os.path.abspath(folder)
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in os.path.basename(root))
    return Path(cache_dir) / f"{stem[:40]}-{digest}{suffix}"


def _write_report(path: Path, skipped: list[Skipped]) -> None:
    # repr of the path: names with newlines keep to their line, those not in UTF-8 can be written.
    with replacing(path) as temporary:
        lines = [f"{s.reason}\t{s.path!r}\n" for s in skipped]
        temporary.write_text("".join(lines), encoding="utf-8")


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
