"""Checkpoint files: written atomically, read without running what they contain."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path` so that a crash at any instant leaves the old file or the new one.

    Written beside, flushed to disk, renamed; then the folder's entry is flushed too. A save that
    fails leaves nothing behind.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def load(path: Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint of tensors and plain containers; nothing in it is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or holds objects other than tensors and plain containers.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint at {path}.")
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as exc:  # damaged bytes make torch's reader raise nearly anything
        raise ValueError(f"Can't read checkpoint {path}: {_reason(exc)}.") from exc
    if not isinstance(state, dict):
        raise ValueError(f"Checkpoint {path} holds a {type(state).__name__}, not a dictionary.")
    return state


def _reason(exc: Exception) -> str:
    text = str(exc)
    if match := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"it holds {match.group(1)}, and only tensors and plain containers are read: anything "
            "else could run code"
        )
    if isinstance(exc, OSError):
        return text
    # Torch's advice here is to switch the safety off.
    detail = "" if isinstance(exc, pickle.UnpicklingError) else f": {text.split('. ')[0]}"
    return f"damaged, or no checkpoint ({type(exc).__name__}{detail})".replace("\n", " ")


def keep_copy(path: Path, epoch: int, keep_last: int) -> None:
    """Keep `path` as `<stem>_<epoch><suffix>`, and of such copies the `keep_last` newest.

    A hard link where the file system has them: the next `save` replaces the name, not the content.
    """
    if keep_last < 0:
        raise ValueError(f"checkpoint.keep_last must be >= 0, got {keep_last}.")
    if keep_last > 0:
        copy = path.with_name(f"{path.stem}_{epoch}{path.suffix}")
        temporary = copy.with_name(copy.name + ".tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
        os.replace(temporary, copy)
        temporary.unlink(missing_ok=True)  # renaming one link of a file to another does nothing
    for old in copies(path)[: -keep_last or None]:
        old.unlink()
    _sync_folder(path.parent)


def copies(path: Path) -> list[Path]:
    """The numbered copies of `path`, oldest epoch first."""
    pattern = re.compile(rf"{re.escape(path.stem)}_(\d+){re.escape(path.suffix)}")
    found = [
        (int(match.group(1)), other)
        for other in path.parent.glob(f"{path.stem}_*{path.suffix}")
        if (match := pattern.fullmatch(other.name))
    ]
    return [other for _, other in sorted(found)]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
