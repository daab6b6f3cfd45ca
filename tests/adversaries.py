"""Small discriminators behind an `AdversarialLoss`, and audio for them."""

import torch

from adversarial_trainer.adversarial import (
    AdversarialLoss,
    FeatureMatchingLoss,
    JointDiscriminator,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleDiscriminator,
    MultiScaleSTFTDiscriminator,
    MultiScaleSubbandCQTDiscriminator,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)


def build(name, **options):
    if name == "msstftd":
        stft = {"n_ffts": [64, 32], "hop_lengths": [16, 8], "win_lengths": [64, 32]}
        return MultiScaleSTFTDiscriminator(2, **stft, dilations=[1, 2], **options)
    if name == "mpd":
        return MultiPeriodDiscriminator(periods=[2, 3], filters=1, max_filters=4, **options)
    if name == "mrd":
        options = {"bands": [[0, 0.4], [0.4, 1]], "normalize_input": True, **options}
        return MultiResolutionDiscriminator(n_ffts=[64, 32], filters=2, **options)
    if name == "cqt":
        sizes = {"hop_lengths": [32, 16], "bins_per_octaves": [6, 12], "n_octaves": 4}
        return MultiScaleSubbandCQTDiscriminator(1000, 2, **sizes, dilations=[1, 2], **options)
    if name == "msd":  # with spectral norm, whose state depends on the order of the passes
        options.setdefault("scale_norms", ["spectral_norm", "weight_norm"])
        return MultiScaleDiscriminator(filters=4, max_filters=8, groups=[1] * 4, **options)
    return JointDiscriminator({name: build(name) for name in ("msstftd", "mpd", "msd")})


def wrap(adversary, loss="hinge", feat=True, pairs=False, **kwargs):
    optimizer = torch.optim.SGD(adversary.parameters(), lr=1e-2)
    return AdversarialLoss(
        adversary,
        optimizer,
        get_adv_criterion(loss),
        get_real_criterion(loss),
        None if pairs else get_fake_criterion(loss),
        FeatureMatchingLoss() if feat else None,
        **kwargs,
    )


def audio(dtype=torch.float32, batch=2, length=300):
    torch.manual_seed(1)
    fake, real = torch.randn(2, batch, 1, length, dtype=dtype)
    return fake.requires_grad_(), real


def close(a, b, tolerance=1e-10):
    """Relative to `b`; some biases' gradients are sums that cancel to zero but for rounding."""
    return (a - b).norm() <= tolerance * b.norm().clamp_min(1e-4)
