"""What Dora keeps of a SLURM job, read without running it.

`dora run`, `launch`, `info` and `grid` unpickle `job.pkl` of the run's folder, which somebody else
may have made. Here such a pickle may name the three classes that a job is made of, and no more.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import dora.grid
import dora.shep
import dora.utils

_CLASSES = {
    ("submitit.slurm.slurm", "SlurmJob"),
    ("submitit.core.utils", "JobPaths"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),  # Python 3.13
}


class _JobUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _CLASSES:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a job")
        return super().find_class(module, name)


def load_job(file: IO[bytes]) -> Any:
    """The jobs in a `job.pkl`; UnpicklingError, on which Dora ignores the file, for all else."""
    return _JobUnpickler(file).load()


def try_load(path: Path, load: Callable[[Any], Any] = load_job, mode: str = "rb") -> Any:
    """As Dora's."""
    return dora.utils.try_load(path, load, mode)


def install() -> None:
    """Dora has no setting for it."""
    dora.shep.try_load = dora.grid.try_load = try_load
