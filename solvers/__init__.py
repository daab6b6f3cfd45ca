"""Solvers: what runs the stages of an experiment."""

from __future__ import annotations

from omegaconf import DictConfig

from adversarial_trainer.registry import get_registry, import_modules

from .base import BaseSolver, SaveError
from .check import check_config
from .compression import CompressionSolver
from .interruption import Interrupted

import_modules(__name__)
SOLVERS = get_registry("solver")


def get_solver(cfg: DictConfig) -> BaseSolver:
    """Return the solver that `cfg.solver` names, with nothing restored or run yet."""
    return SOLVERS.build(cfg.solver, cfg=cfg)


__all__ = [
    "SOLVERS",
    "BaseSolver",
    "CompressionSolver",
    "Interrupted",
    "SaveError",
    "check_config",
    "get_solver",
]
