"""Quantizers of latents `[B, D, T]` into codes `[B, K, T]`."""

from adversarial_trainer.quantization.base import BaseQuantizer, QuantizedResult
from adversarial_trainer.quantization.dac import DACQuantizer
from adversarial_trainer.quantization.dummy import DummyQuantizer
from adversarial_trainer.quantization.fsq import FSQuantizer
from adversarial_trainer.quantization.rvq import ResidualVectorQuantizer
from adversarial_trainer.quantization.vae import VAEQuantizer
from adversarial_trainer.registry import get_registry, import_modules

import_modules(__name__)
QUANTIZERS = get_registry("quantizer")

__all__ = [
    "QUANTIZERS",
    "BaseQuantizer",
    "DACQuantizer",
    "DummyQuantizer",
    "FSQuantizer",
    "QuantizedResult",
    "ResidualVectorQuantizer",
    "VAEQuantizer",
]
