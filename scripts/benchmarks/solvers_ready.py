"""A solver and batches of noise, without data, loggers or a run's folder."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import weakref
from pathlib import Path

import torch
from dora.xp import XP

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch
from adversarial_trainer.train import main
from solvers import CompressionSolver, check_config, get_solver

# Layers as they are: nothing is read from data.
READY = ["data_init=false"]


def ready_solver(overrides: list[str]) -> CompressionSolver:
    """The solver of a recipe, in training mode, with codebooks that have values."""
    if "quantizer=none" not in overrides:
        overrides = [*overrides, "quantizer.kmeans_init=false"]
    xp = main.get_xp([*READY, *overrides])
    check_config(xp.cfg)
    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    xp = XP(dora=dataclasses.replace(main.dora, dir=folder), cfg=xp.cfg, argv=[], sig="benchmark")
    torch.manual_seed(xp.cfg.seed)
    with xp.enter():
        solver = get_solver(xp.cfg)
    weakref.finalize(solver, shutil.rmtree, folder, ignore_errors=True)
    if not isinstance(solver, CompressionSolver):
        raise TypeError(f"solver={xp.cfg.solver} is not a compression solver.")
    solver.model.train()
    if solver.adversarial is not None:
        solver.adversarial.train()
    return solver


def noise(solver: CompressionSolver, batch_size: int) -> Batch:
    """This rank's share of a batch."""
    rank, size = distrib.rank(), distrib.world_size()
    share = batch_size * (rank + 1) // size - batch_size * rank // size
    length = round(solver.cfg.dataset.segment_duration * solver.cfg.sample_rate)
    return Batch(0.3 * torch.randn(share, solver.cfg.channels, length), [])
