"""Find the audio files of a folder and check each by decoding it once."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from adversarial_trainer.audio import EXTENSIONS, UNSUPPORTED
from adversarial_trainer.registry import format_count

from .decoding import Skipped, check
from .manifest import AudioMeta, meta_from_dict, read_entries, save_entries

logger = logging.getLogger(__name__)

# Part of the cache's name; raised when the checks change, so that old results are not used.
VERSION = 4

Stamp = tuple[int, int]  # size in bytes and modification time in ns: change with the contents
T = TypeVar("T")


class ScanReport(NamedTuple):
    """The result of a scan: the usable files and those left out, sorted by path."""

    files: list[AudioMeta]
    skipped: list[Skipped]


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
        cache_dir: where to keep the result: an AudioCraft manifest of the usable files, and a list
            of the others. Files are checked again when their size or modification time changes.
            Nothing is written beside the audio.
        workers: threads; by default one a core.
        name: the configuration key the folder comes from, for messages.
    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no usable file.
    """
    root = os.path.abspath(folder)
    files, left_out = list_files(str(folder), name)
    cache = None if cache_dir is None else cache_path(root, cache_dir)
    known = {} if cache is None else _load(cache)
    found = {path: result for path, (stamp, result) in known.items() if files.get(path) == stamp}
    todo = [path for path in files if path not in found]
    try:
        for result in map_files(check, todo, "scan", workers, progress):
            found[result.path] = result
    finally:
        # Saved even if interrupted: the next scan continues from here.
        if cache is not None and (todo or left_out or found.keys() != known.keys()):
            _save(cache, files, left_out, found)
    results = [found[path] for path in sorted(found)]
    usable = [result for result in results if isinstance(result, AudioMeta)]
    skipped = sorted(left_out + [result for result in results if isinstance(result, Skipped)])
    kinds = Counter(sorted(result.kind for result in skipped)).most_common()
    reasons = ", ".join(f"{count} {kind}" for kind, count in kinds)
    where = f"; see {skipped_path(cache)}" if cache and skipped else ""
    if not usable:
        line = f"none of {len(skipped)} audio files is usable: {reasons}{where}"
        raise ValueError(f"{name}={str(folder)!r}: {line}")
    hours = sum(meta.duration for meta in usable) / 3600
    length = f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
    told = f"; {len(skipped)} skipped ({reasons}){where}" if skipped else ""
    logger.info("%s: %s, %s%s", root, format_count(len(usable), "usable file"), length, told)
    return ScanReport(usable, skipped)


def map_files(
    function: Callable[[str], T],
    paths: Sequence[str],
    title: str,
    workers: int | None = None,
    progress: bool = True,
) -> Iterator[T]:
    """Yield `function(path)` for each path, in order, with a bar on stderr.

    In threads, because libsndfile and numpy release the interpreter's lock while they work.
    """
    remaining = iter(paths)
    with (
        ThreadPoolExecutor(workers or os.cpu_count()) as pool,
        tqdm(None, title, len(paths), unit="file", disable=not (progress and paths) or None) as bar,
    ):
        while chunk := list(islice(remaining, 1024)):  # bounds what Ctrl-C waits for
            for result in pool.map(function, chunk):
                bar.update()
                yield result


def cache_path(folder: str | Path, cache_dir: str | Path) -> Path:
    """Return the manifest in which `scan` keeps the usable files of `folder`."""
    root = os.path.abspath(folder)
    digest = hashlib.sha256(f"{VERSION}:".encode() + os.fsencode(root)).hexdigest()[:12]
    stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in os.path.basename(root))
    return Path(cache_dir) / f"{stem[:40]}-{digest}.jsonl"


def skipped_path(cache: Path) -> Path:
    """Return the file with the skipped files, beside the manifest `cache`."""
    return cache.with_suffix(".skipped.jsonl")


def _save(
    cache: Path,
    files: Mapping[str, Stamp],
    skipped: Iterable[Skipped],
    found: Mapping[str, AudioMeta | Skipped],
) -> None:
    used, left_out = [], [result._asdict() for result in sorted(skipped)]
    for path, result in sorted(found.items(), key=lambda item: item[0]):
        size, mtime_ns = files[path]
        stamp = {"size": size, "mtime_ns": mtime_ns}
        if isinstance(result, AudioMeta):
            used.append(asdict(result) | stamp)
        else:
            # Unreadable files are tried again: their permissions may have changed.
            left_out.append(result._asdict() | ({} if result.kind == "unreadable" else stamp))
    save_entries(cache, used)
    save_entries(skipped_path(cache), left_out)


def _load(cache: Path) -> dict[str, tuple[Stamp, AudioMeta | Skipped]]:
    """Read what `_save` wrote; nothing if a file is missing or broken."""
    known: dict[str, tuple[Stamp, AudioMeta | Skipped]] = {}
    try:
        for path in (cache, skipped_path(cache)):
            for where, entry in read_entries(path) if path.is_file() else ():
                if "size" not in entry:
                    continue  # not decoded, or to be tried again
                stamp = int(entry["size"]), int(entry["mtime_ns"])
                if path == cache:
                    known[entry["path"]] = stamp, meta_from_dict(entry, "/", where)
                else:
                    known[entry["path"]] = stamp, Skipped(str(entry["path"]), str(entry["reason"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        logger.warning("Ignoring a broken cache, the folder is scanned again: %s", error)
        return {}
    return known


def list_files(folder: str, name: str) -> tuple[dict[str, Stamp], list[Skipped]]:
    """List the audio files below `folder`, following links, each once.

    Returns:
        The files to be checked with their stamps, and those that cannot be used.
    Raises:
        FileNotFoundError, ValueError: it is no folder, or has no such file; with the configuration
            key `name`.
    """
    if not os.path.exists(folder):
        raise FileNotFoundError(f"{name}={folder!r}: no such folder")
    if not os.path.isdir(folder):
        raise ValueError(f"{name}={folder!r}: a file; give a folder or a manifest (.jsonl)")
    files: dict[str, Stamp] = {}
    skipped: list[Skipped] = []
    paths: list[str] = []
    seen: set[tuple[int, int]] = set()  # device and inode

    def failed(error: OSError) -> None:
        reason = f"folder cannot be listed: {error.strerror}"
        skipped.append(Skipped(str(error.filename), reason))

    # Real files and folders come before links, so that a link never takes its target's place.
    for current, folders, names in os.walk(os.path.abspath(folder), True, failed, True):
        info = os.stat(current)
        if (info.st_dev, info.st_ino) in seen:  # a link led back to it
            folders.clear()
            continue
        seen.add((info.st_dev, info.st_ino))
        folders.sort(key=lambda name: (os.path.islink(os.path.join(current, name)), name))
        paths += [os.path.join(current, name) for name in names]
    for path in sorted(paths, key=lambda path: (os.path.islink(path), path)):
        suffix = os.path.splitext(path)[1].lower()
        if suffix not in EXTENSIONS | UNSUPPORTED:
            continue
        try:
            info = os.stat(path)
            if suffix in UNSUPPORTED:
                reason = f"unsupported format: {suffix}"
            elif not stat.S_ISREG(info.st_mode):
                reason = "not a regular file"
            elif (info.st_dev, info.st_ino) in seen:
                reason = "second name of a file: link"
            else:
                seen.add((info.st_dev, info.st_ino))
                files[path] = info.st_size, info.st_mtime_ns
                continue
        except OSError as error:  # a link to nowhere or to itself
            reason = f"unreadable: {error.strerror}"
        skipped.append(Skipped(path, reason))
    if not files and not skipped:
        valid = ", ".join(sorted(EXTENSIONS))
        line = f"no audio file in the folder; others: {len(paths)}. Valid extensions: {valid}"
        raise ValueError(f"{name}={folder!r}: {line}")
    return files, skipped
