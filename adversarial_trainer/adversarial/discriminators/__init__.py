"""Discriminators, each a set of sub-discriminators that judge the audio at different scales."""

from adversarial_trainer.adversarial.discriminators.base import (
    JointDiscriminator,
    MultiDiscriminator,
)
from adversarial_trainer.adversarial.discriminators.cqt import MultiScaleSubbandCQTDiscriminator
from adversarial_trainer.adversarial.discriminators.mpd import MultiPeriodDiscriminator
from adversarial_trainer.adversarial.discriminators.mrd import MultiResolutionDiscriminator
from adversarial_trainer.adversarial.discriminators.msd import MultiScaleDiscriminator
from adversarial_trainer.adversarial.discriminators.msstftd import MultiScaleSTFTDiscriminator
from adversarial_trainer.registry import get_registry, import_modules

import_modules(__name__)
DISCRIMINATORS = get_registry("discriminator")

__all__ = [
    "DISCRIMINATORS",
    "JointDiscriminator",
    "MultiDiscriminator",
    "MultiPeriodDiscriminator",
    "MultiResolutionDiscriminator",
    "MultiScaleDiscriminator",
    "MultiScaleSTFTDiscriminator",
    "MultiScaleSubbandCQTDiscriminator",
]
