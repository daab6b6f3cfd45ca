"""Layers of the generator and the discriminators."""

from adversarial_trainer.registry import import_modules

from .conv import (
    NormConv1d,
    NormConv2d,
    NormConvTranspose1d,
    SConv1d,
    SConvTranspose1d,
    StreamableConv1d,
    StreamableConvTranspose1d,
    pad1d,
    pad_for_conv1d,
    unpad1d,
)
from .lstm import SLSTM, StreamableLSTM
from .norm import fold_weight_norm
from .seanet import SEANetDecoder, SEANetEncoder, SEANetResnetBlock

import_modules(__name__)

__all__ = [
    "NormConv1d",
    "NormConv2d",
    "NormConvTranspose1d",
    "SConv1d",
    "SConvTranspose1d",
    "SLSTM",
    "SEANetDecoder",
    "SEANetEncoder",
    "SEANetResnetBlock",
    "StreamableConv1d",
    "StreamableConvTranspose1d",
    "StreamableLSTM",
    "fold_weight_norm",
    "pad1d",
    "pad_for_conv1d",
    "unpad1d",
]
