"""Data-dependent initialisation of a codec."""

from __future__ import annotations

import torch

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.modules.data_init import data_dependent_init, scale_parameter


@torch.no_grad()
def initialise_from_data(model: EncodecModel, x: torch.Tensor) -> None:
    """Scale encoder and decoder to a first batch, without the quantizer between them.

    Latents then have mean 0 and variance 1 in each channel, and the output has the mean 0 and the
    level of the input; see `data_dependent_init` for why. Layers with spectral norm keep their
    scale.

    Args:
        x: `[B, C, T]`, a whole batch of ordinary material, the same on all ranks.
    """
    x, _ = model.preprocess(x)
    changed = data_dependent_init(model, lambda: model.decoder(model.encoder(x)))
    if not changed:
        return
    # The output of the last layer has variance 1 now, which the input rarely has.
    last, level = changed[-1], x.std()
    for parameter in (scale_parameter(last), last.bias):
        if isinstance(parameter, torch.Tensor):
            parameter.mul_(level)
