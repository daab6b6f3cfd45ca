"""Evaluation of a codec: metrics on whole files at each bandwidth, beside a baseline.

The solvers' evaluate stage and `adversarial-trainer evaluate` both run `evaluate`.
"""

from .measure import codebook_counts, evaluate
from .opus import Opus
from .output import describe_data, describe_model, write_results
from .results import Results
from .scoring import Scorer, get_scorer

__all__ = [
    "Opus",
    "Results",
    "Scorer",
    "codebook_counts",
    "describe_data",
    "describe_model",
    "evaluate",
    "get_scorer",
    "write_results",
]
