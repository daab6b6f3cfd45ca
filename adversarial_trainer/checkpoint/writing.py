"""Writing files so that a crash at any instant leaves the old one or the new one, whole."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from .reading import check_file, check_nesting


def previous_path(path: Path) -> Path:
    """Where `save` keeps the file that it replaces."""
    return path.with_name(f"{path.stem}_previous{path.suffix}")


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path`; what was there stays, as `previous_path(path)`.

    Written beside, flushed to disk, renamed; then the folder's entry is flushed too. At each
    instant of a crash both names stand for whole files.

    Raises:
        ValueError: `load` would not read it: it holds more than tensors and plain containers.
        OSError: a full disk or the like. Then nothing has changed, and the message says how much
            room was needed, and how much there is.
    """
    try:
        check_nesting(state)
        with reported(path, _size(state)):
            _write(state, path)
    except ValueError as exc:
        raise ValueError(f"Can't save {path}: {exc}.") from exc


def _write(state: dict[str, Any], path: Path) -> None:
    for leftover in path.parent.glob(f"{glob.escape(path.stem)}*.tmp"):
        leftover.unlink()
    with _temporary(path) as temporary:
        with open(temporary, "w+b") as file:
            _save(state, file)
            check_file(file, checksums=False)
            file.flush()
            os.fsync(file.fileno())
        if path.is_file():
            duplicate(path, previous_path(path))
        os.replace(temporary, path)
    sync_folder(path.parent)


def duplicate(path: Path, other: Path) -> None:
    """Make `other` a second name of the file `path`, or a copy of it where there are no links.

    `save` replaces the name, and does not write into the file: so either stays as it is.
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


def sync_folder(folder: Path) -> None:
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
def reported(path: Path, needed: int) -> Iterator[None]:
    """Say of an OSError which file it is about, and how much room there was.

    Args:
        needed: bytes.
    """
    try:
        yield
    except OSError as exc:
        try:
            free = f", {_readable(shutil.disk_usage(path.parent).free)} free"
        except OSError:  # the folder is gone
            free = ""
        message = f"Can't save {path}: {exc.strerror or exc} (needs {_readable(needed)}{free})"
        raise OSError(exc.errno, message) from exc


class _Output:
    """A file for torch's writer that remembers its first error.

    While it unwinds, the writer fails again, with a RuntimeError of its own (torch 2.11).
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except BaseException as exc:
            self.error = self.error or exc
            raise

    def flush(self) -> None:
        self.file.flush()


def _save(state: dict[str, Any], file: IO[bytes]) -> None:
    output = _Output(file)
    try:
        torch.save(state, output)  # type: ignore[arg-type]
    except RuntimeError as exc:
        if output.error is None:
            raise
        raise output.error from exc


def _size(state: Any) -> int:
    """Bytes of the tensors in nested containers, about those of their file."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict | list | tuple):
        return sum(_size(value) for value in (state.values() if isinstance(state, dict) else state))
    return 0


def _readable(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 10e6 else f"{size / 1e6:,.0f} MB"
