"""A small disk that can be full for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SIZE = 64  # MiB
INSIDE = "SOAK_NAMESPACE"


def enter_namespace() -> None:
    """Start this process anew in a mount namespace of its own, where it may mount a small disk;
    as nobody in particular, where the system lets users do so. Does nothing where it does not."""
    if os.environ.get(INSIDE) is not None:
        return
    prefix = ["unshare", "--map-root-user", "--mount", "--"]
    try:
        subprocess.run([*prefix, "mount", "-t", "tmpfs", "none", "/tmp"], check=True, timeout=20,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return
    os.environ[INSIDE] = "1"
    os.execvp(prefix[0], [*prefix, sys.executable, *sys.argv])


class Disk:
    """A folder for the run; on a disk of its own where that can be."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._filler = folder / "filler"
        self.small = os.environ.get(INSIDE) is not None
        if self.small:
            size = f"size={SIZE}m"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "soak", folder], check=True)

    def fill(self, room: int) -> None:
        """Leave only `room` bytes of it."""
        with open(self._filler, "wb", buffering=0) as file:
            try:
                while True:
                    free = shutil.disk_usage(self.folder).free - room
                    if free <= 0 or file.write(bytes(min(free, 1 << 20))) == 0:
                        return
            except OSError:  # somebody else has taken the rest
                return

    def empty(self) -> None:
        """Have room again."""
        self._filler.unlink(missing_ok=True)

    def remove(self) -> None:
        """Be gone, with all that is in it."""
        if self.small:
            subprocess.run(["umount", self.folder], check=True)
        shutil.rmtree(self.folder)
