"""`adversarial-trainer doctor`: what is wrong with a folder of audio, before training on it."""

from .diagnosis import Diagnosis, diagnose
from .findings import Problem, find_problems

__all__ = ["Diagnosis", "Problem", "diagnose", "find_problems"]
