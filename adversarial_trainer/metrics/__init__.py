"""Metrics of reconstructions, `metric(fake, real) -> [B]`, and of codebook use.

A new metric is a file here, with a class that is registered and has `title`, `unit` and
`higher_is_better`; tables, plots, pages and loggers take its words from there.
"""

from __future__ import annotations

from adversarial_trainer.registry import get_registry, import_modules

from .base import Metric
from .codebook import CodebookUsage
from .mel import MelDistance
from .pesq import PESQ
from .sisnr import SISNRMetric
from .stft import STFTDistance
from .stoi import STOI
from .visqol import ViSQOL

import_modules(__name__)
METRICS = get_registry("metric")

__all__ = [
    "METRICS",
    "PESQ",
    "STOI",
    "CodebookUsage",
    "MelDistance",
    "Metric",
    "SISNRMetric",
    "STFTDistance",
    "ViSQOL",
]
