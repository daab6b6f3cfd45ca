"""`adversarial-trainer doctor`: check a folder of audio before training on it."""

from .problems import Problem, find_problems
from .report import Report, examine
from .stats import AudioFile

__all__ = ["AudioFile", "Problem", "Report", "examine", "find_problems"]
