"""What a fresh model takes from its data before the first update."""

from __future__ import annotations

import logging

import torch

from adversarial_trainer import distrib
from adversarial_trainer.adversarial import AdversarialLoss
from adversarial_trainer.adversarial.adversary import read_only
from adversarial_trainer.data import TrainBatches
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.initialise import initialise_from_data
from adversarial_trainer.modules.data_init import data_dependent_init

logger = logging.getLogger(__name__)

# Training starts at epoch 1, so that the batches seen here are others.
EPOCH = 0


def initialise_weights(
    model: EncodecModel | None,
    adversarial: AdversarialLoss | None,
    batches: TrainBatches,
    like: torch.Tensor,
) -> None:
    """Scale the layers of generator and discriminators to the first batch, of all ranks."""
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
    """Start the codebooks by k-means on the first batches, before any update."""
    quantizer = model.quantizer
    if quantizer.initialised:
        return
    model.train()
    count = 0
    # The quantizer makes do with what it has after some batches.
    while not quantizer.initialised:
        batches.set_position(EPOCH)
        for batch in batches:
            result = model(batch.wav.to(like))
            if not result.x.isfinite().all():  # there would be no end to waiting for frames
                raise FloatingPointError(
                    "The model's output is not finite before any update; with continue_from, "
                    "look whether that run had diverged."
                )
            quantizer.update(result)
            count += 1
            if quantizer.initialised:
                break
    logger.info("Codebooks started by k-means on %d batches", count)
