"""Find the audio files below a folder."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from adversarial_trainer.audio import EXTENSIONS

from .scan_cache import Entry

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
class Listing:
    """What lies below a folder.

    Attributes:
        entries: files to be checked.
        skipped: what has an audio file's name and cannot be one.
        others: how many files there are of each other extension.
    """

    entries: list[Entry] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def nothing(self) -> str:
        """What to say where there is no audio file."""
        line = "no audio file in the folder"
        if self.others:
            line += f", but {self.others.total()} others ({', '.join(sorted(self.others)[:8])})"
        return f"{line}. Read are: {', '.join(sorted(EXTENSIONS))}"


def list_files(folder: str, name: str) -> Listing:
    """The files below `folder`, following links, each once.

    Raises FileNotFoundError or ValueError, with the configuration key `name`, where that is no
    folder.
    """
    if not os.path.exists(folder):
        raise FileNotFoundError(f"{name}={folder!r}: no such folder")
    if not os.path.isdir(folder):
        raise ValueError(f"{name}={folder!r}: a file; give a folder or a manifest (.jsonl)")
    listing = Listing()
    for entry in _walk(os.path.abspath(folder), listing.skipped, listing.others):
        listing.entries.append(entry)
    return listing


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
