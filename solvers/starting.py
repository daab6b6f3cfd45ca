"""Initialisation of weights and codebooks from the first batches of data."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from adversarial_trainer import distrib
from adversarial_trainer.adversarial import AdversarialLoss
from adversarial_trainer.adversarial.adversary import read_only
from adversarial_trainer.data import TrainBatches
from adversarial_trainer.models.encodec import EncodecModel, initialise_from_data
from adversarial_trainer.modules.data_init import data_dependent_init

if TYPE_CHECKING:
    from .compression import CompressionSolver

logger = logging.getLogger(__name__)

# Training starts at epoch 1, with other batches.
EPOCH = 0


def initialise(solver: CompressionSolver) -> None:
    """Initialise a new run from its first batches; weights taken from another run are kept."""
    if solver.cfg.data_init:
        model = None if solver.cfg.continue_from else solver.model
        adversarial = None if solver.adversary_loaded else solver.adversarial
        initialise_weights(model, adversarial, solver.data.train, solver.like)
    if solver.ema is not None:
        solver.ema.reset()
    initialise_codebooks(solver.model, solver.data.train, solver.like)


def initialise_weights(
    model: EncodecModel | None,
    adversarial: AdversarialLoss | None,
    batches: TrainBatches,
    like: torch.Tensor,
) -> None:
    """Scale the layers of generator and discriminators to the first batch of all ranks.

    Args:
        model, adversarial: None for one that keeps its weights.
        like: has the device and type of training.
    """
    if model is None and adversarial is None:
        return
    batches.set_position(EPOCH)
    real = distrib.gather_rows(next(iter(batches)).wav.to(like))
    if model is not None:
        initialise_from_data(model, real)
    if adversarial is not None:
        adversary = adversarial.adversary
        with read_only(adversary):
            data_dependent_init(adversary, lambda: adversary(real))


@torch.no_grad()
def initialise_codebooks(model: EncodecModel, batches: TrainBatches, like: torch.Tensor) -> None:
    """Initialise the codebooks by k-means on the first batches, before any update."""
    model.train()
    count = 0
    while not model.quantizer.initialised:  # k-means may need several batches
        batches.set_position(EPOCH)
        for batch in batches:
            result = model(batch.wav.to(like))
            if not result.x.isfinite().all():
                raise FloatingPointError(
                    "The model's output is not finite before any update; with continue_from, "
                    "check whether that run had diverged."
                )
            model.quantizer.update(result)
            count += 1
            if model.quantizer.initialised:
                break
    if count:
        logger.info("Codebooks initialised by k-means on %d batches", count)
