"""Solvers: what runs the stages of an experiment."""

from __future__ import annotations

from omegaconf import DictConfig

from adversarial_trainer.registry import Registry

from .base import BaseSolver, SaveError
from .check import check_config
from .compression import CompressionSolver
from .interruption import Interrupted

SOLVERS = Registry("solver", {"compression": CompressionSolver})


def get_solver(cfg: DictConfig) -> BaseSolver:
    """The solver that `cfg.solver` names, built but with nothing restored or run."""
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
