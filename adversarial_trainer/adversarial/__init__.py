"""Adversarial training: discriminators, criteria, feature matching and the adversarial loss.

Names, constructor arguments and call signatures are AudioCraft 1.3's, so porting is a changed
import:

    from adversarial_trainer import adversarial  # was: from audiocraft import adversarial

    disc = adversarial.MultiScaleSTFTDiscriminator(filters=32)
    adv_loss = adversarial.AdversarialLoss(
        disc, torch.optim.Adam(disc.parameters(), 3e-4, betas=(0.5, 0.9)),
        loss=adversarial.get_adv_criterion('hinge'),
        loss_real=adversarial.get_real_criterion('hinge'),
        loss_fake=adversarial.get_fake_criterion('hinge'),
        loss_feat=adversarial.FeatureMatchingLoss())
    for real in loader:                       # [B, C, T]
        fake = generator(real)
        adv_loss.train_adv(fake, real)        # updates the discriminators
        adv, feat = adv_loss(fake, real)      # losses for the generator
        ...                                   # adv_loss.metrics has the discriminators' accuracy
"""

from adversarial_trainer.adversarial.criteria import (
    ADVERSARIAL_LOSSES,
    AdvLossType,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)
from adversarial_trainer.adversarial.discriminators import (
    DISCRIMINATORS,
    JointDiscriminator,
    MultiDiscriminator,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleDiscriminator,
    MultiScaleSTFTDiscriminator,
    MultiScaleSubbandCQTDiscriminator,
)
from adversarial_trainer.adversarial.feature_matching import FeatLossType, FeatureMatchingLoss
from adversarial_trainer.adversarial.losses import AdversarialLoss
from adversarial_trainer.adversarial.penalties import GradientPenalty

__all__ = [
    "ADVERSARIAL_LOSSES",
    "DISCRIMINATORS",
    "AdvLossType",
    "AdversarialLoss",
    "FeatLossType",
    "FeatureMatchingLoss",
    "GradientPenalty",
    "JointDiscriminator",
    "MultiDiscriminator",
    "MultiPeriodDiscriminator",
    "MultiResolutionDiscriminator",
    "MultiScaleDiscriminator",
    "MultiScaleSTFTDiscriminator",
    "MultiScaleSubbandCQTDiscriminator",
    "get_adv_criterion",
    "get_fake_criterion",
    "get_real_criterion",
]
