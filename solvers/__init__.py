"""Solvers: what runs the stages of an experiment."""

from __future__ import annotations

from omegaconf import DictConfig

from adversarial_trainer.registry import Registry

from .base import BaseSolver
from .check import check_config
from .compression import CompressionSolver

SOLVERS = Registry("solver", {"compression": CompressionSolver})


def get_solver(cfg: DictConfig) -> BaseSolver:
    """The solver that `cfg.solver` names, built but with nothing restored or run."""
    if cfg.solver is None:
        raise ValueError("No recipe chosen: add solver=tiny, solver=encodec, ... (config/solver/).")
    return SOLVERS.build(cfg.solver, cfg=cfg)


__all__ = ["SOLVERS", "BaseSolver", "CompressionSolver", "check_config", "get_solver"]
