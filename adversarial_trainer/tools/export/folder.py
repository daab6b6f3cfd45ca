"""Write a folder as a whole."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def check_folder(out: Path, force: bool) -> None:
    """Raise FileExistsError if `out` has something that must not be overwritten."""
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise FileExistsError(f"{out} exists and is not a folder.")
    if not force and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; --force replaces what an export writes there.")


@contextmanager
def replacing_folder(out: Path, force: bool, names: Iterable[str]) -> Iterator[Path]:
    """Yield an empty folder beside `out` whose files are moved to `out` if the block succeeds.

    Args:
        force: `out` may have files. Those of `names` are replaced, or removed if the block did not
            write them (they would belong to another codec); others are kept.
        names: of all files that the block may write.
    """
    check_folder(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".{uuid.uuid4().hex}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        # safetensors makes files that only their owner can read: follow the umask instead.
        for path in temporary.iterdir():
            path.chmod(temporary.stat().st_mode & 0o666)
        if not os.path.lexists(out):
            os.rename(temporary, out)
            return
        for name in names:
            if (temporary / name).exists():
                os.replace(temporary / name, out / name)
            else:
                (out / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
