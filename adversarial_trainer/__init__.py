"""Training framework for GAN audio codecs: Hydra configuration, Dora runs, Flashy solvers.

The most useful names are here, imported when they are first used:

    from adversarial_trainer import AdversarialLoss, load_codec
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adversarial_trainer.adversarial import (
        AdversarialLoss,
        FeatureMatchingLoss,
        MultiPeriodDiscriminator,
        MultiScaleDiscriminator,
        MultiScaleSTFTDiscriminator,
        get_adv_criterion,
        get_fake_criterion,
        get_real_criterion,
    )
    from adversarial_trainer.losses import Balancer
    from adversarial_trainer.models import EncodecModel
    from adversarial_trainer.models.pretrained import Codec, load_codec
    from adversarial_trainer.quantization import ResidualVectorQuantizer
    from adversarial_trainer.registry import register

__version__ = "0.1.0"

_PLACES = {
    "adversarial": (
        *("AdversarialLoss", "FeatureMatchingLoss", "MultiPeriodDiscriminator"),
        *("MultiScaleDiscriminator", "MultiScaleSTFTDiscriminator", "get_adv_criterion"),
        *("get_fake_criterion", "get_real_criterion"),
    ),
    "losses": ("Balancer",),
    "models": ("EncodecModel",),
    "models.pretrained": ("Codec", "load_codec"),
    "quantization": ("ResidualVectorQuantizer",),
    "registry": ("register",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "AdversarialLoss",
    "Balancer",
    "Codec",
    "EncodecModel",
    "FeatureMatchingLoss",
    "MultiPeriodDiscriminator",
    "MultiScaleDiscriminator",
    "MultiScaleSTFTDiscriminator",
    "ResidualVectorQuantizer",
    "get_adv_criterion",
    "get_fake_criterion",
    "get_real_criterion",
    "load_codec",
    "register",
]


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` when it is asked for: torch takes seconds (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
