"""Checkpoint files: saved atomically, verified when read, rotated.

A crash at any instant of `save` leaves the old file or the new one, whole. `load` compares the
checksums of the archive, which torch does not, and runs no code of the file (`weights_only`).
`load_newest` falls back to the checkpoint before where one is damaged.
"""

from __future__ import annotations

import errno
import glob
import io
import logging
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

logger = logging.getLogger(__name__)

_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def previous_path(path: Path) -> Path:
    """Return where `save` keeps the file that it replaces."""
    return path.with_name(f"{path.stem}_previous{path.suffix}")


# -- writing


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path`; what was there stays, as `previous_path(path)`.

    Written to a temporary file, flushed to disk, renamed; then the folder's entry is flushed.

    Raises:
        ValueError: `torch.load(weights_only=True)` would refuse the state.
        OSError: a full disk or the like. Then nothing has changed, and the message says how much
            room was needed, and how much there is.
    """
    buffer = io.BytesIO()  # torch's own writer hides what the operating system says
    torch.save(state, buffer)
    for leftover in path.parent.glob(f"{glob.escape(path.stem)}*.tmp"):
        leftover.unlink()
    with _explained(path, buffer.getbuffer().nbytes), _temporary(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        try:
            torch.load(temporary, map_location="cpu", weights_only=True, mmap=True)
        except UnpicklingError as exc:
            raise ValueError(f"Can't save {path}: {_refusal(exc)}.") from exc
        if path.is_file():
            _link(path, previous_path(path))
        os.replace(temporary, path)
        _sync_folder(path.parent)


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
        with _explained(copy, path.stat().st_size):
            _link(path, copy)
            if for_ever:
                copy.chmod(stat.S_IMODE(copy.stat().st_mode) & ~_WRITABLE)
    for old in copies(path)[: -keep_last or None]:
        if old.stat().st_mode & _WRITABLE:
            old.unlink()
    _sync_folder(path.parent)


def keep_as(path: Path, name: str) -> None:
    """Keep `path` as `<stem>_<name><suffix>`, in place of what has that name, as in `best`."""
    if not re.fullmatch(r"[a-z]+", name) or name == "previous":
        raise ValueError(f"A checkpoint cannot be kept as {name!r}: use a word in small letters.")
    copy = path.with_name(f"{path.stem}_{name}{path.suffix}")
    with _explained(copy, path.stat().st_size):
        _link(path, copy)
        _sync_folder(path.parent)


def copies(path: Path) -> list[Path]:
    """Return the numbered copies of `path`, oldest epoch first."""
    pattern = re.compile(rf"{re.escape(path.stem)}_(\d+){re.escape(path.suffix)}")
    found = [
        (int(match.group(1)), other)
        for other in path.parent.iterdir()
        if (match := pattern.fullmatch(other.name))
    ]
    return [other for _, other in sorted(found)]


def _link(path: Path, other: Path) -> None:
    """Make `other` a hard link of the file `path`, or a copy of it where there are no links.

    `save` replaces the name and does not write into the file, so `other` stays as it is.
    """
    with _temporary(other) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            with open(path, "rb") as source, open(temporary, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
        os.replace(temporary, other)


def _sync_folder(folder: Path) -> None:
    """Flush the folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A name beside `path`, free before and after."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
    finally:
        # Renaming one link of a file to another leaves both.
        temporary.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path, needed: int) -> Iterator[None]:
    """Name the file in an OSError, the `needed` bytes and the room there is."""
    try:
        yield
    except OSError as exc:
        try:
            free = f", {_megabytes(shutil.disk_usage(path.parent).free)} free"
        except OSError:  # the folder is gone
            free = ""
        message = f"Can't save {path}: {exc.strerror or exc} (needs {_megabytes(needed)}{free})"
        raise OSError(exc.errno, message) from exc


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 10e6 else f"{size / 1e6:,.0f} MB"


# -- reading


def load(path: Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint of tensors and plain containers; nothing in it is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or holds objects other than tensors and plain containers.
        OSError: it cannot be read now.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(f"No checkpoint at {path}.")
    try:
        if not path.is_file():  # reading a pipe or a device may never end
            raise ValueError("not a file")
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"damaged (wrong checksum of {damaged})")
        state = torch.load(path, map_location=map_location, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}, not a dictionary")
    except UnpicklingError as exc:
        raise ValueError(f"Can't read checkpoint {path}: {_refusal(exc)}.") from exc
    except ValueError as exc:
        raise ValueError(f"Can't read checkpoint {path}: {exc}.") from exc
    except OSError as exc:
        if exc.errno != errno.EIO:  # of a file that is good, maybe
            raise
        raise ValueError(f"Can't read checkpoint {path}: the disk fails ({exc}).") from exc
    except MemoryError:
        raise
    except Exception as exc:  # a damaged file makes zipfile and torch raise nearly anything
        reason = " ".join(str(exc).partition("\n")[0].split())
        raise ValueError(f"Can't read checkpoint {path}: damaged ({reason}).") from exc
    return state


def load_newest(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Load the newest whole checkpoint of a run: `path`, the one before, or a numbered copy.

    Damaged ones that are newer are reported, and renamed to `<name>.damaged`. For rank 0 only.

    Returns:
        The file it came from and the state; None where there is no checkpoint at all.
    Raises:
        ValueError: all are damaged. They stay where they are.
    """
    damaged: dict[Path, str] = {}
    for candidate in [path, previous_path(path), *reversed(copies(path))]:
        if not os.path.lexists(candidate):
            continue
        try:
            state = load(candidate)
        except (ValueError, FileNotFoundError) as exc:
            damaged[candidate] = str(exc)
            continue
        for other, reason in damaged.items():
            logger.error("%s It is now called %s.", reason, _set_aside(other).name)
        if candidate != path:
            logger.warning("Resuming from an older checkpoint, %s.", candidate)
        return candidate, state
    if damaged:
        raise ValueError(
            f"No checkpoint of this run can be read. {' '.join(damaged.values())} Put a good copy "
            f"in place of {path.name}, or start anew with `dora run --clear ...`."
        )
    return None


def _refusal(exc: UnpicklingError) -> str:
    """Return in short what torch.load(weights_only=True) refuses."""
    found = re.search(r"GLOBAL ([\w.]+)", str(exc))
    if found:
        return f"it holds {found.group(1)}, and only tensors and plain containers are allowed"
    return "damaged, or it holds more than tensors and plain containers"


def _set_aside(path: Path) -> Path:
    """Rename a damaged file: it is evidence, and no longer in the way."""
    number = 1
    other = path.with_name(f"{path.name}.damaged")
    while os.path.lexists(other):
        number += 1
        other = path.with_name(f"{path.name}.damaged{number}")
    os.rename(path, other)
    return other
