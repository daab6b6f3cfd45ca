"""Losses between two batches of audio, and the balancer that combines them.

Every loss is called as `loss(fake, real)` on `[B, C, T]`, reconstruction first, and returns a
scalar that is a mean over items.
"""

from __future__ import annotations

from adversarial_trainer.registry import get_registry, import_modules

from .balancer import Balancer
from .mel import MelSpectrogramL1Loss, MultiScaleMelSpectrogramLoss
from .msmel import MultiResolutionMelLoss
from .plain import L1Loss, L2Loss
from .sisnr import SISNR
from .stft import MRSTFTLoss, StereoSTFTLoss, STFTLoss

import_modules(__name__)
LOSSES = get_registry("loss")

__all__ = [
    "LOSSES",
    "SISNR",
    "Balancer",
    "L1Loss",
    "L2Loss",
    "MRSTFTLoss",
    "MelSpectrogramL1Loss",
    "MultiResolutionMelLoss",
    "MultiScaleMelSpectrogramLoss",
    "STFTLoss",
    "StereoSTFTLoss",
]
