"""Layers of the generator and the discriminators."""

from adversarial_trainer.registry import import_modules

from .conv import (
    StreamableConv1d,
    StreamableConvTranspose1d,
    pad1d,
)
from .lstm import StreamableLSTM
from .norm import NormConv1d, NormConv2d, NormConvTranspose1d, fold_weight_norm
from .seanet import SEANetDecoder, SEANetEncoder, SEANetResnetBlock

import_modules(__name__)

__all__ = [
    "NormConv1d",
    "NormConv2d",
    "NormConvTranspose1d",
    "SEANetDecoder",
    "SEANetEncoder",
    "SEANetResnetBlock",
    "StreamableConv1d",
    "StreamableConvTranspose1d",
    "StreamableLSTM",
    "fold_weight_norm",
    "pad1d",
]
