"""Discriminators, each a set of sub-discriminators that judge the audio at different scales."""

from adversarial_trainer.adversarial.discriminators.base import (
    JointDiscriminator,
    MultiDiscriminator,
)
from adversarial_trainer.adversarial.discriminators.cqt import (
    DiscriminatorCQT,
    MultiScaleSubbandCQTDiscriminator,
)
from adversarial_trainer.adversarial.discriminators.mpd import (
    MultiPeriodDiscriminator,
    PeriodDiscriminator,
)
from adversarial_trainer.adversarial.discriminators.mrd import (
    MultiResolutionDiscriminator,
    ResolutionDiscriminator,
)
from adversarial_trainer.adversarial.discriminators.msd import (
    MultiScaleDiscriminator,
    ScaleDiscriminator,
)
from adversarial_trainer.adversarial.discriminators.msstftd import (
    DiscriminatorSTFT,
    MultiScaleSTFTDiscriminator,
)
from adversarial_trainer.registry import get_registry, import_modules

import_modules(__name__)
DISCRIMINATORS = get_registry("discriminator")

__all__ = [
    "DISCRIMINATORS",
    "DiscriminatorCQT",
    "DiscriminatorSTFT",
    "JointDiscriminator",
    "MultiDiscriminator",
    "MultiPeriodDiscriminator",
    "MultiResolutionDiscriminator",
    "MultiScaleDiscriminator",
    "MultiScaleSTFTDiscriminator",
    "MultiScaleSubbandCQTDiscriminator",
    "PeriodDiscriminator",
    "ResolutionDiscriminator",
    "ScaleDiscriminator",
]
