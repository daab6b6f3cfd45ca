"""Metrics of reconstructions, `metric(fake, real) -> [B]`, and of codebook use."""

from __future__ import annotations

from adversarial_trainer.registry import Registry

from .base import Metric
from .codebook import CodebookUsage
from .mel import MelDistance
from .pesq import PESQ
from .sisnr import SISNRMetric
from .stft import STFTDistance
from .stoi import STOI
from .visqol import ViSQOL

METRICS = Registry(
    "metric",
    {
        "sisnr": SISNRMetric,
        "mel": MelDistance,
        "stft": STFTDistance,
        "visqol": ViSQOL,
        "pesq": PESQ,
        "stoi": STOI,
    },
)

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
