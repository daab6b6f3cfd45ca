"""Evaluation of a codec: metrics on whole files at each bandwidth, beside a baseline.

The solvers' evaluate stage and `adversarial-trainer evaluate` both run `evaluate`.
"""

from .measure import evaluate
from .opus import Opus
from .output import write_results
from .results import Results
from .scoring import Scorer, WantedMetric
from .settings import codebook_counts

__all__ = [
    "Opus",
    "Results",
    "Scorer",
    "WantedMetric",
    "codebook_counts",
    "evaluate",
    "write_results",
]
