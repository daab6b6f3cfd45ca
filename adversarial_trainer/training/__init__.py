"""Optimizers, learning-rate schedules and averaged weights."""

from __future__ import annotations

from adversarial_trainer.registry import get_registry

from .ema import ModuleEMA
from .optim import Schedule, keep_options

OPTIMIZERS = get_registry("optimizer")
SCHEDULES = get_registry("schedule")

__all__ = ["OPTIMIZERS", "SCHEDULES", "ModuleEMA", "Schedule", "keep_options"]
