"""`adversarial-trainer doctor`: check a folder of audio before training on it."""

from .problems import Problem, find_problems
from .report import AudioFile, Report, examine
from .stats import FileStats

__all__ = ["AudioFile", "FileStats", "Problem", "Report", "examine", "find_problems"]
