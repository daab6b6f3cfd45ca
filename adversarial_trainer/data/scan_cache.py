"""What is known about each file of a scanned folder, kept between runs."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from adversarial_trainer.audio import replacing

from .manifest import AudioMeta, meta_from_dict, read_lines

logger = logging.getLogger(__name__)

# Raised when the checks of a scan change, so that old results are not believed.
VERSION = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as it was when checked: its meta, or the reason to leave it out, or neither yet."""

    path: str
    size: int
    mtime_ns: int
    meta: AudioMeta | None = None
    skipped: str | None = None

    @property
    def stamp(self) -> tuple[int, int]:
        """Changes when the file's contents do."""
        return self.size, self.mtime_ns

    def skip(self, reason: str) -> Entry:
        """The same file, to be left out."""
        return replace(self, skipped=reason)

    def accept(self, meta: AudioMeta) -> Entry:
        """The same file, usable."""
        return replace(self, meta=meta)


def save_index(path: Path, root: str, entries: Iterable[Entry]) -> None:
    """Write the entries of the folder `root`; atomic."""
    with replacing(path) as temporary, open(temporary, "w", encoding="ascii") as file:
        file.write(json.dumps({"version": VERSION, "folder": root}) + "\n")
        for entry in entries:
            file.write(json.dumps(asdict(entry)) + "\n")


def load_index(path: Path, root: str) -> dict[str, Entry]:
    """Entries by path; none where there is no index, or one that cannot be used."""
    if not path.is_file():
        return {}
    entries = {}
    try:
        with open(path, "rb") as file:
            lines = read_lines(file, path)
            header = json.loads(next(lines, "null"))
            if header != {"version": VERSION, "folder": root}:
                return {}
            for line in lines:
                entry = json.loads(line)
                meta = entry["meta"]
                if not isinstance(entry["skipped"], str | None):
                    raise TypeError("a reason that is no text")
                entries[entry["path"]] = Entry(
                    os.path.join(root, entry["path"]), int(entry["size"]), int(entry["mtime_ns"]),
                    None if meta is None else meta_from_dict(meta, root, str(path)),
                    entry["skipped"],
                )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        logger.warning("%s: not used, the folder is scanned again (%s)", path, error)
        return {}
    return entries
