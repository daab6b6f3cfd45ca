"""Reading a checkpoint: verified, and nothing in it is executed."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import IO, Any

import torch

from .archive import read_archive
from .plain_pickle import check_pickle

MAX_DEPTH = 50  # containers inside one another
MAX_CONTAINERS = 1_000_000  # counted as often as they stand in others


def load(path: Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint of tensors and plain containers; nothing in it is executed.

    Its checksums are compared, and what it declares with what it has, before anything of it is
    used. So memory is that of the state, and a file that differs in a bit gives the same or none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or holds objects other than tensors and plain containers.
        OSError: it cannot be read now.
    """
    if not path.exists() and not path.is_symlink():
        raise FileNotFoundError(f"No checkpoint at {path}.")
    if not path.is_file():  # reading a pipe or a device may never end
        raise ValueError(f"Can't read checkpoint {path}: not a file.")
    try:
        with open(path, "rb") as file:
            check_file(file)
            file.seek(0)
            state = torch.load(file, map_location=map_location, weights_only=True)
            check_nesting(state)
            return state
    except OSError as exc:
        if exc.errno != errno.EIO:  # of a file that is good, maybe
            raise
        raise ValueError(f"Can't read checkpoint {path}: the disk fails ({exc}).") from exc
    except MemoryError:
        raise
    except Exception as exc:  # torch's reader raises nearly anything
        reason = str(exc) if isinstance(exc, ValueError) else f"damaged ({_first_line(exc)})"
        raise ValueError(f"Can't read checkpoint {path}: {_one_line(reason)}.") from exc


def check_file(file: IO[bytes], checksums: bool = True) -> None:
    """Verify what `torch.save` wrote; ValueError where `load` would refuse it.

    Args:
        checksums: whether to read the tensors, for their checksums.
    """
    archive = read_archive(file, checksums)
    check_pickle(archive.pickle, archive.storages)


def check_nesting(state: dict[str, Any]) -> None:
    """Refuse containers that hold one another so that going through them would take for ever."""
    count = 0

    def visit(container: Any, depth: int) -> None:
        nonlocal count
        count += 1
        if depth > MAX_DEPTH or count > MAX_CONTAINERS:
            limit = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_CONTAINERS:,} containers"
            raise ValueError(f"its containers hold one another: more than {limit}")
        for item in container.values() if isinstance(container, dict) else container:
            if isinstance(item, dict | list | tuple):
                visit(item, depth + 1)

    visit(state, 1)


def _first_line(exc: Exception) -> str:
    return f"{type(exc).__name__}: {str(exc).partition('. ')[0]}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
