"""Solvers: what runs the stages of an experiment."""

from __future__ import annotations

from contextlib import nullcontext

from omegaconf import DictConfig

from adversarial_trainer.registry import get_registry, import_modules

from .base import BaseSolver, SaveError
from .check import check_config
from .check.light_torch import without_compile
from .compression import CompressionSolver
from .interruption import Interrupted

import_modules(__name__)
SOLVERS = get_registry("solver")


def get_solver(cfg: DictConfig) -> BaseSolver:
    """The solver that `cfg.solver` names, built but with nothing restored or run."""
    with without_compile() if cfg.show else nullcontext():
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
