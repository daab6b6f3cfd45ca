"""A codec's weights from its first batch."""

from __future__ import annotations

import torch

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.modules.data_init import data_dependent_init, scale_parameter


@torch.no_grad()
def initialise_from_data(model: EncodecModel, x: torch.Tensor) -> None:
    """Scale encoder and decoder, around no quantizer, to the signals that `x` makes in them.

    Latents then have mean 0 and variance 1 in each channel, and the output has the mean 0 and the
    level of the input; see `data_dependent_init` for why. `x`, `[B, C, T]`, should be a whole
    batch of ordinary material, the same on all ranks. Spectrally normed layers keep their scale.
    """
    x, _ = model.preprocess(x)
    changed = data_dependent_init(model, lambda: model.decoder(model.encoder(x)))
    if not changed:
        return
    last = changed[-1]
    level = x.std()
    # Its output has variance 1 now; the input rarely has.
    for parameter in (scale_parameter(last), last.bias):
        if isinstance(parameter, torch.Tensor):
            parameter.mul_(level)
