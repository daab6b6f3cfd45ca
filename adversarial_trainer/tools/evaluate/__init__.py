"""How good a codec is: metrics of whole files at each bandwidth, beside a baseline.

The solvers' evaluate stage and `adversarial-trainer evaluate` both run `evaluate`.
"""

from .bandwidths import codebook_counts, counts_of_bandwidths
from .measure import evaluate
from .opus import Opus
from .results import Results
from .scoring import WantedMetric
from .writing import write_results

__all__ = [
    "Opus",
    "Results",
    "WantedMetric",
    "codebook_counts",
    "counts_of_bandwidths",
    "evaluate",
    "write_results",
]
