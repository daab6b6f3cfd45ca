"""Checkpoint files: saved atomically, verified when read, rotated.

A crash at any instant of `save` leaves the old file or the new one, whole. `load` compares the
checksums of the archive, which torch does not, and runs no code of the file (`weights_only`).
`load_newest` falls back to the checkpoint before where one is damaged.
"""

from __future__ import annotations

import glob
import io
import logging
import os
import re
import shutil
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

logger = logging.getLogger(__name__)


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
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        torch.load(temporary, map_location="cpu", weights_only=True, mmap=True)
        if path.is_file():
            _link(path, previous_path(path))
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except UnpicklingError as exc:
        raise ValueError(f"Can't save {path}: {_refusal(exc)}.") from exc
    except OSError as exc:
        needed, free = buffer.getbuffer().nbytes, shutil.disk_usage(path.parent).free
        raise OSError(
            exc.errno,
            f"Can't save {path}: {exc.strerror or exc} (needs {needed / 1e6:,.1f} MB, "
            f"{free / 1e6:,.1f} MB free)",
        ) from exc
    finally:
        temporary.unlink(missing_ok=True)


def keep_copy(path: Path, epoch: int, keep_last: int, keep_every: int = 0) -> None:
    """Keep `path` as `<stem>_<epoch><suffix>`: of the `keep_last` last epochs, and of each epoch
    that `keep_every` divides (0: of none) for ever.

    A copy is a hard link where the file system has them.
    """

    def for_ever(number: int) -> bool:
        return keep_every > 0 and number % keep_every == 0

    old = epoch - keep_last
    if not for_ever(old):
        path.with_name(f"{path.stem}_{old}{path.suffix}").unlink(missing_ok=True)
    if keep_last > 0 or for_ever(epoch):
        keep_as(path, str(epoch))


def keep_as(path: Path, name: str) -> None:
    """Keep `path` as `<stem>_<name><suffix>`, in place of what has that name, as in `best`."""
    _link(path, path.with_name(f"{path.stem}_{name}{path.suffix}"))


def copies(path: Path) -> list[Path]:
    """Return the numbered copies of `path`, oldest epoch first."""
    pattern = re.compile(rf"{re.escape(path.stem)}_(\d+){re.escape(path.suffix)}")
    found = [(pattern.fullmatch(other.name), other) for other in path.parent.iterdir()]
    return [other for _, other in sorted((int(m[1]), other) for m, other in found if m)]


def _link(path: Path, other: Path) -> None:
    """Make `other` a hard link of the file `path`, or a copy of it where there are no links.

    `save` replaces the name and does not write into the file, so `other` stays as it is.
    """
    temporary = other.with_name(other.name + ".tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
        os.replace(temporary, other)
    finally:
        # Renaming one link of a file to another leaves both.
        temporary.unlink(missing_ok=True)


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
                raise ValueError(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location=map_location, weights_only=True)
    except UnpicklingError as exc:
        raise ValueError(f"Can't read checkpoint {path}: {_refusal(exc)}.") from exc
    except (OSError, MemoryError):
        raise
    except Exception as exc:  # a damaged file makes zipfile and torch raise nearly anything
        reason = " ".join(str(exc).partition("\n")[0].split())
        raise ValueError(f"Can't read checkpoint {path}: damaged ({reason}).") from exc
    if not isinstance(state, dict):
        kind = type(state).__name__
        raise ValueError(f"Can't read checkpoint {path}: it holds a {kind}, not a dictionary.")
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
        except ValueError as exc:
            damaged[candidate] = str(exc)
            continue
        for other, reason in damaged.items():
            # It is evidence, and no longer in the way.
            renamed = other.replace(other.with_name(f"{other.name}.damaged"))
            logger.error("%s It is now called %s.", reason, renamed.name)
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
    if found := re.search(r"GLOBAL ([\w.]+)", str(exc)):
        return f"it holds {found.group(1)}, and only tensors and plain containers are allowed"
    return "damaged, or it holds more than tensors and plain containers"
