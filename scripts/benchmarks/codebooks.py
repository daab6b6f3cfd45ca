"""Codebooks as they might be after training, without training."""

from __future__ import annotations

import torch

from adversarial_trainer.models import EncodecModel
from adversarial_trainer.quantization import ResidualVectorQuantizer


@torch.no_grad()
def start_from(model: EncodecModel, x: torch.Tensor) -> None:
    """Start the codebooks of `model`, where it has any, from its latents of `x` `[B, C, T]`."""
    if not isinstance(model.quantizer, ResidualVectorQuantizer):
        return
    rows = model.encoder(model.preprocess(x)[0]).transpose(1, 2).flatten(0, 1)  # [N, D]
    for book in model.quantizer.codebooks:
        picks = rows[torch.randint(len(rows), (model.cardinality,))]
        # A share of it, as a trained codebook leaves most of a frame to those after it.
        entries = 0.15 * picks + 0.1 * rows.std() * torch.randn_like(picks)
        book.start(entries, picks.new_ones(len(picks)))
        rows = rows - book.lookup(book.nearest(rows))
