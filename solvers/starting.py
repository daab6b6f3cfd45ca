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
from adversarial_trainer.modules.data_init import activity, data_dependent_init

if TYPE_CHECKING:
    from .compression import CompressionSolver

logger = logging.getLogger(__name__)

# Training starts at epoch 1, with other batches.
EPOCH = 0
MAX_ITEMS = 1000  # to look for loud ones in
LOUD, SILENT = 10 ** (-50 / 20), 10 ** (-80 / 20)  # activity of items


def initialise(solver: CompressionSolver) -> None:
    """Initialise a new run from its first batches; weights taken from another run are kept."""
    if solver.cfg.data_init:
        model = None if solver.cfg.continue_from else solver.model
        adversarial = None if solver.adversary_loaded else solver.adversarial
        latents_only = solver.cfg.data_init == "latents"
        initialise_weights(model, adversarial, solver.data.train, solver.like, latents_only)
    if solver.ema is not None:
        solver.ema.reset()
    initialise_codebooks(solver.model, solver.data.train, solver.like)


def initialise_weights(
    model: EncodecModel | None,
    adversarial: AdversarialLoss | None,
    batches: TrainBatches,
    like: torch.Tensor,
    latents_only: bool = False,
) -> None:
    """Scale the layers of generator and discriminators to the loud ones of the first items.

    Args:
        model, adversarial: None for one that keeps its weights.
        like: has the device and type of training.
        latents_only: of the generator, see `initialise_from_data`.
    """
    if model is None and adversarial is None:
        return
    real = _loud_items(batches, like)
    if model is not None:
        initialise_from_data(model, real, latents_only)
    if adversarial is not None:
        adversary = adversarial.adversary
        with read_only(adversary):
            data_dependent_init(adversary, lambda: adversary(real))


def _loud_items(batches: TrainBatches, like: torch.Tensor) -> torch.Tensor:
    """Return items `[B, C, T]` of all ranks that show what the layers will get, at least eight if
    there are: the first batch, in which what is quiet is replaced from further ones.

    Layers scaled to silence, to dither or to a click would blow up everything else.
    """
    batches.set_position(EPOCH)
    real, loudness = like.new_zeros(0), like.new_zeros(0)
    seen = 0
    for batch in batches:
        wav = distrib.gather_rows(batch.wav.to(like))
        real = torch.cat([real, wav]) if len(real) else wav
        loudness = activity(real)
        wanted = max(len(wav), 8)
        kept = loudness.topk(min(wanted, len(real))).indices.sort().values
        real, loudness = real[kept], loudness[kept]
        seen += len(wav)
        if seen >= MAX_ITEMS or (len(real) == wanted and loudness.min() > LOUD):
            break
    if not loudness.max() > SILENT:
        raise FloatingPointError(
            "data_init: the first batches are silent, or below -80 dBFS, and layers cannot be "
            "scaled to them. Look at the data (adversarial-trainer doctor), or set data_init=false."
        )
    return real[loudness > loudness.max() / 10]


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
                    "The model's output is not finite before any update: look at the data, or at "
                    "the run of continue_from, which may have diverged."
                )
            model.quantizer.update(result)
            count += 1
            if model.quantizer.initialised:
                break
    if count:
        logger.info("Codebooks initialised by k-means on %d batches", count)
