"""Which checkpoints of a run are kept, and which one it goes on from."""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path
from typing import Any

from .reading import load
from .writing import duplicate, previous_path, reported, sync_folder

logger = logging.getLogger(__name__)

_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def keep_copy(path: Path, epoch: int, keep_last: int, keep_every: int = 0) -> None:
    """Keep `path` as `<stem>_<epoch><suffix>`: of the `keep_last` last epochs, and of each epoch
    that `keep_every` divides (0: of none) for ever.

    The latter are made read-only, and read-only copies are never removed: they stay when
    `keep_every` changes. A copy is a hard link where the file system has them.
    """
    for name, value in (("keep_last", keep_last), ("keep_every", keep_every)):
        if value < 0:
            raise ValueError(f"checkpoint.{name} must be >= 0, got {value}.")
    for_ever = keep_every > 0 and epoch % keep_every == 0
    if keep_last > 0 or for_ever:
        copy = path.with_name(f"{path.stem}_{epoch}{path.suffix}")
        with reported(copy, path.stat().st_size):
            duplicate(path, copy)
            if for_ever:
                copy.chmod(stat.S_IMODE(copy.stat().st_mode) & ~_WRITABLE)
    for old in copies(path)[: -keep_last or None]:
        if old.stat().st_mode & _WRITABLE:
            old.unlink()
    sync_folder(path.parent)


def keep_as(path: Path, name: str) -> None:
    """Keep `path` as `<stem>_<name><suffix>`, in place of what has that name, as in `best`."""
    if not re.fullmatch(r"[a-z]+", name) or name == "previous":
        raise ValueError(f"A checkpoint cannot be kept as {name!r}: use a word in small letters.")
    copy = path.with_name(f"{path.stem}_{name}{path.suffix}")
    with reported(copy, path.stat().st_size):
        duplicate(path, copy)
        sync_folder(path.parent)


def copies(path: Path) -> list[Path]:
    """The numbered copies of `path`, oldest epoch first."""
    pattern = re.compile(rf"{re.escape(path.stem)}_(\d+){re.escape(path.suffix)}")
    found = [
        (int(match.group(1)), other)
        for other in path.parent.iterdir()
        if (match := pattern.fullmatch(other.name))
    ]
    return [other for _, other in sorted(found)]


def load_newest(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Load the newest whole checkpoint of a run: `path`, the one before, or a numbered copy.

    Damaged ones that are newer are reported, and set aside as `<name>.damaged`. For one process
    of a run only.

    Returns:
        The file it came from and the state; None where there is no checkpoint at all.
    Raises:
        ValueError: all are damaged. They stay where they are.
    """
    damaged: dict[Path, str] = {}
    unreadable: dict[tuple[int, int], Path] = {}
    for candidate in [path, previous_path(path), *reversed(copies(path))]:
        if not os.path.lexists(candidate):
            continue
        entry = candidate.lstat()
        inode = (entry.st_dev, entry.st_ino)
        try:
            if inode in unreadable:
                raise ValueError(f"{candidate} is the same file as {unreadable[inode].name}.")
            state = load(candidate)
        except (ValueError, FileNotFoundError) as exc:
            damaged[candidate] = str(exc)
            unreadable[inode] = candidate
            continue
        for other, reason in damaged.items():
            logger.error("%s It is now called %s.", reason, _set_aside(other).name)
        if candidate != path:
            logger.warning("Goes on from an older checkpoint, %s.", candidate)
        return candidate, state
    if damaged:
        raise ValueError(
            f"No checkpoint of this run can be read. {' '.join(damaged.values())} Put a good copy "
            f"in place of {path.name}, or start anew with `dora run --clear ...`."
        )
    return None


def _set_aside(path: Path) -> Path:
    """Rename a damaged file: it is evidence, and no longer in the way."""
    number = 1
    other = path.with_name(f"{path.name}.damaged")
    while os.path.lexists(other):
        number += 1
        other = path.with_name(f"{path.name}.damaged{number}")
    os.rename(path, other)
    return other
