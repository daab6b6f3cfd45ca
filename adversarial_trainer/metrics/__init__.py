"""Metrics of reconstructions, `metric(fake, real) -> [B]`, and of codebook use."""

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
