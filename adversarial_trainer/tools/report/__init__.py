"""HTML pages of one run, or of several compared: audio, spectrograms, curves, configuration."""

from .names import Meaning, meaning, panel
from .page import NAME, write_comparison, write_report
from .run import CURVES, Run, find_run_folder, read_run

__all__ = [
    "CURVES",
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
