"""Losses between two batches of audio, and the balancer that combines them.

Every loss is called as `loss(fake, real)` on `[B, C, T]`, reconstruction first, and returns a
scalar that is a mean over items.
"""

from __future__ import annotations

from torch import nn

from adversarial_trainer.registry import Registry

from .balancer import Balancer
from .mel import MelSpectrogramL1Loss, MultiScaleMelSpectrogramLoss
from .sisnr import SISNR
from .stft import MRSTFTLoss, STFTLoss

LOSSES = Registry(
    "loss",
    {
        "l1": nn.L1Loss,
        "l2": nn.MSELoss,
        "mel": MelSpectrogramL1Loss,
        "msspec": MultiScaleMelSpectrogramLoss,
        "mrstft": MRSTFTLoss,
        "sisnr": SISNR,
    },
)

__all__ = [
    "LOSSES",
    "SISNR",
    "Balancer",
    "MRSTFTLoss",
    "MelSpectrogramL1Loss",
    "MultiScaleMelSpectrogramLoss",
    "STFTLoss",
]
