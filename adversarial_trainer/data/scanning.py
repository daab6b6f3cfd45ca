"""Find the audio files of a folder and check each by decoding it once."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from .. import activity
from ..audio import EXTENSIONS, replacing
from .checking import check
from .manifest import AudioMeta, save_manifest
from .scan_cache import Entry, load_index, save_index

logger = logging.getLogger(__name__)

# Audio that libsndfile cannot read: worth a word, where a .txt is not.
UNSUPPORTED = frozenset(".m4a .mp4 .aac .wma .ape .mka .webm .amr .ac3 .dsf .wv".split())


class Skipped(NamedTuple):
    """A file left out, and why. The reason starts with its kind: `unreadable: ...`, `silent`."""

    path: str
    reason: str

    @property
    def kind(self) -> str:
        """The part of the reason that is counted in summaries."""
        return self.reason.partition(":")[0]


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
    shorter than 10 ms, with NaN or Inf samples, silent all through (a constant counts), of a
    sample rate outside 1 to 768 kHz, of a format that libsndfile lacks, a second name of a file.

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
    if not os.path.exists(root):
        raise FileNotFoundError(f"{name}={str(folder)!r}: no such folder")
    if not os.path.isdir(root):
        raise ValueError(f"{name}={str(folder)!r}: a file; give a folder or a manifest (.jsonl)")
    index_path = None if cache_dir is None else cache_path(root, cache_dir, ".index.jsonl")
    known = {} if index_path is None else load_index(index_path, root)
    found: dict[str, Entry] = {}
    unlisted: list[Skipped] = []
    others: Counter[str] = Counter()
    reused = 0
    todo: list[Entry] = []
    for entry in _walk(root, unlisted, others):
        activity.progress(f"listing the files of {root}")
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
                    activity.progress(f"scanning {root}")
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
        skipped=sorted([Skipped(e.path, e.skipped) for e in ordered if e.skipped] + unlisted),
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
        raise ValueError(_nothing(f"{name}={str(folder)!r}", report, others) + where)
    return report


def cache_path(folder: str | Path, cache_dir: str | Path, suffix: str = ".jsonl") -> Path:
    """Where `scan` keeps the manifest (or what the suffix says) of `folder`."""
    root = os.path.abspath(folder)
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in os.path.basename(root))
    return Path(cache_dir) / f"{stem[:40]}-{digest}{suffix}"


def _walk(root: str, unlisted: list[Skipped], others: Counter[str]) -> Iterator[Entry]:
    """Yield the audio files below `root`; folders and files that have two names, once."""
    seen: set[object] = set()

    def first(info: os.stat_result, path: str) -> bool:
        # Some network file systems have no inode numbers.
        key: object = (info.st_dev, info.st_ino) if info.st_ino else os.path.realpath(path)
        new = key not in seen
        seen.add(key)
        return new

    stack = [root]
    while stack:
        folder = stack.pop()
        try:
            if not first(os.stat(folder), folder):
                continue  # a loop of links ends here
            with os.scandir(folder) as listing:
                # Real files before links, so that a link never takes its target's place.
                children = sorted(listing, key=lambda e: (e.is_symlink(), e.name))
        except OSError as error:
            unlisted.append(Skipped(folder, f"folder cannot be listed: {error.strerror}"))
            continue
        folders = []
        for child in children:
            suffix = os.path.splitext(child.name)[1].lower()
            try:
                if child.is_dir():
                    folders.append(child.path)
                    continue
                if suffix not in EXTENSIONS | UNSUPPORTED:
                    others[suffix or child.name] += 1
                    continue
                info = child.stat()
            except OSError as error:  # a link to nowhere or to itself
                unlisted.append(Skipped(child.path, f"unreadable: {error.strerror}"))
                continue
            if suffix in UNSUPPORTED:
                unlisted.append(Skipped(child.path, f"unsupported format: {suffix}"))
            elif not stat.S_ISREG(info.st_mode):
                unlisted.append(Skipped(child.path, "not a regular file"))
            elif not first(info, child.path):
                unlisted.append(Skipped(child.path, "second name of a file: link"))
            else:
                yield Entry(child.path, info.st_size, info.st_mtime_ns)
        stack.extend(reversed(folders))


def _write_report(path: Path, skipped: list[Skipped]) -> None:
    # repr of the path: names with newlines keep to their line, those not in UTF-8 can be written.
    with replacing(path) as temporary:
        lines = [f"{s.reason}\t{s.path!r}\n" for s in skipped]
        temporary.write_text("".join(lines), encoding="utf-8")


def _nothing(source: str, report: ScanReport, others: Counter[str]) -> str:
    if report.skipped:
        return f"{source}: none of {len(report.skipped)} audio files is usable: {report.reasons()}"
    line = f"{source}: no audio file in the folder"
    if others:
        line += f", but {sum(others.values())} others ({', '.join(sorted(others)[:8])})"
    return f"{line}. Read are: {', '.join(sorted(EXTENSIONS))}"


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
