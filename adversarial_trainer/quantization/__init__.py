"""Quantizers of latents `[B, D, T]` into codes `[B, K, T]`."""

from adversarial_trainer.quantization.base import BaseQuantizer, DummyQuantizer, QuantizedResult
from adversarial_trainer.quantization.rvq import ResidualVectorQuantizer
from adversarial_trainer.registry import Registry

QUANTIZERS = Registry("quantizer", {"rvq": ResidualVectorQuantizer, "none": DummyQuantizer})

__all__ = [
    "QUANTIZERS",
    "BaseQuantizer",
    "DummyQuantizer",
    "QuantizedResult",
    "ResidualVectorQuantizer",
]
