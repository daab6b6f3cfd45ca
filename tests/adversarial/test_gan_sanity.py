"""Does it learn?"""

import math

import pytest
import torch

from adversarial_trainer.adversarial import (
    DISCRIMINATORS,
    AdversarialLoss,
    FeatureMatchingLoss,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)

SIZES = {
    "msstftd": {"filters": 4, "n_ffts": [64, 32], "hop_lengths": [16, 8], "win_lengths": [64, 32]},
    "mpd": {"periods": [2, 3], "filters": 2, "max_filters": 16},
    "msd": {
        "filters": 8,
        "max_filters": 32,
        "downsample_scales": [4, 4],
        "scale_norms": ["weight_norm"] * 2,
    },
}


def sines(batch, length=512):
    t = torch.arange(length)
    frequency = torch.rand(batch, 1, 1) * 0.2 + 0.02
    return torch.sin(2 * math.pi * (frequency * t + torch.rand(batch, 1, 1)))


@pytest.mark.parametrize("name, loss", [("mpd", "mse"), ("msd", "hinge"), ("msstftd", "hinge2")])
def test_tells_noise_from_sines_and_says_how_to_fool_it(name, loss):
    torch.manual_seed(0)
    adversary = DISCRIMINATORS.build(name, **SIZES[name])
    optimizer = torch.optim.Adam(adversary.parameters(), 5e-3, betas=(0.5, 0.9))
    adv_loss = AdversarialLoss(
        adversary,
        optimizer,
        get_adv_criterion(loss),
        get_real_criterion(loss),
        get_fake_criterion(loss),
        FeatureMatchingLoss(relative=True),
    )
    for _ in range(50):
        adv_loss.train_adv(torch.randn(8, 1, 512), sines(8))
    adv_loss.eval()
    fake, real = torch.randn(8, 1, 512, requires_grad=True), sines(8)
    adv, feat = adv_loss(fake, real)
    assert adv_loss.metrics["d_acc"] > 0.9
    assert adv_loss.metrics["d_real"] > adv_loss.metrics["d_fake"]

    for index, value in enumerate((adv, feat)):
        (gradient,) = torch.autograd.grad(value, fake, retain_graph=True)
        nudged = fake - 0.3 * gradient / gradient.norm()
        assert adv_loss(nudged, real)[index] < value
