"""A solver ready for `train_step` without data, loggers or a run's folder; and codebooks."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import torch
from dora.xp import XP

from adversarial_trainer.models import EncodecModel
from adversarial_trainer.quantization import ResidualVectorQuantizer
from adversarial_trainer.train import main
from solvers import CompressionSolver, check_config, get_solver


def ready_solver(overrides: list[str]) -> CompressionSolver:
    """Return the solver of a recipe, in training mode, with initialised codebooks."""
    if "quantizer=none" not in overrides:
        overrides = [*overrides, "quantizer.kmeans_init=false"]
    xp = main.get_xp(["data_init=false", *overrides])
    check_config(xp.cfg)
    with tempfile.TemporaryDirectory(prefix="ready_") as folder:
        dora = dataclasses.replace(main.dora, dir=Path(folder))
        xp = XP(dora=dora, cfg=xp.cfg, argv=[], sig="ready")
        torch.manual_seed(xp.cfg.seed)
        with xp.enter():
            solver = get_solver(xp.cfg)
    if not isinstance(solver, CompressionSolver):
        raise TypeError(f"solver={xp.cfg.solver} is not a compression solver.")
    solver.model.train()
    if solver.adversarial is not None:
        solver.adversarial.train()
    return solver


@torch.no_grad()
def start_codebooks(model: EncodecModel, x: torch.Tensor) -> None:
    """Initialise the codebooks of `model` from its latents of audio `x` `[B, C, T]`."""
    if not isinstance(model.quantizer, ResidualVectorQuantizer):
        return
    rows = model.encoder(model.preprocess(x)[0]).transpose(1, 2).flatten(0, 1)  # [N, D]
    for book in model.quantizer.codebooks:
        picks = rows[torch.randint(len(rows), (model.cardinality,))]
        # Scaled, as a trained codebook leaves much of a frame to the next ones.
        entries = 0.15 * picks + 0.1 * rows.std() * torch.randn_like(picks)
        book.start(entries, picks.new_ones(len(picks)))
        rows = rows - book.lookup(book.nearest(rows))
