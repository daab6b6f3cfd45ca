"""Pages to listen to and to look at: one run, or several compared."""

from .catalogue import Meaning, meaning, panel
from .run import Run, find_run_folder, read_run
from .writing import NAME, write_comparison, write_report

__all__ = [
    "NAME",
    "Meaning",
    "Run",
    "find_run_folder",
    "meaning",
    "panel",
    "read_run",
    "write_comparison",
    "write_report",
]
