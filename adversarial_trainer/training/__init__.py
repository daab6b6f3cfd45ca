"""Optimizers, learning-rate schedules and averaged weights."""

from __future__ import annotations

import torch

from adversarial_trainer.registry import Registry

from .ema import ModuleEMA
from .options import keep_options
from .schedules import ConstantSchedule, CosineSchedule, ExponentialSchedule, Schedule

OPTIMIZERS = Registry("optimizer", {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW})
SCHEDULES = Registry(
    "schedule",
    {
        "constant": ConstantSchedule,
        "cosine": CosineSchedule,
        "exponential": ExponentialSchedule,
    },
)

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "ConstantSchedule",
    "CosineSchedule",
    "ExponentialSchedule",
    "ModuleEMA",
    "Schedule",
    "keep_options",
]
