"""Data-dependent initialisation: statistics of every layer, by hooks of the test's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adversarial_trainer.adversarial import (
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleDiscriminator,
    MultiScaleSTFTDiscriminator,
    MultiScaleSubbandCQTDiscriminator,
)
from adversarial_trainer.modules.data_init import data_dependent_init
from adversarial_trainer.modules.seanet import SEANetEncoder


def signal(channels: int = 1, length: int = 4000) -> torch.Tensor:
    """Quiet, like audio: noise bursts and tones of some -20 dBFS."""
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(length) / 8000
    tones = torch.sin(2 * torch.pi * torch.tensor([220.0, 440.0, 1000.0, 60.0])[:, None] * time)
    noise = torch.randn(4, channels, length, generator=generator)
    return 0.1 * tones[:, None] + 0.02 * noise


def statistics(module: nn.Module, x: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Mean and variance per channel of what each convolution puts out."""
    found = {}

    def look(name: str):
        def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
            dims = [d for d in range(output.dim()) if d != 1]
            found[name] = (output.mean(dims), output.var(dims, correction=0))

        return hook

    kinds = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)
    handles = [
        child.register_forward_hook(look(name))
        for name, child in module.named_modules()
        if isinstance(child, kinds)
    ]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("norm", ["weight_norm", "none"])
def test_every_convolution_of_an_encoder_gets_mean_0_variance_1(norm: str) -> None:
    torch.manual_seed(0)
    encoder = SEANetEncoder(1, 16, n_filters=4, ratios=[4, 2], norm=norm, lstm=1)
    x = signal()
    before = statistics(encoder, x)
    assert any(variance.mean() < 1e-2 for _, variance in before.values())  # the fault it is for
    changed = data_dependent_init(encoder, lambda: encoder(x))
    after = statistics(encoder, x)
    assert len(changed) == len(after)
    for name, (mean, variance) in after.items():
        assert mean.abs().max() < 1e-3, name
        assert (variance - 1).abs().max() < 1e-2, name


@pytest.mark.parametrize(
    "adversary",
    [
        lambda: MultiPeriodDiscriminator(periods=[2, 3], filters=2, max_filters=16),
        lambda: MultiScaleDiscriminator(filters=4, max_filters=16, scale_norms=["weight_norm"] * 2),
        lambda: MultiScaleSTFTDiscriminator(4, n_ffts=[256], hop_lengths=[64], win_lengths=[256]),
        lambda: MultiResolutionDiscriminator(n_ffts=[256], filters=4),
        lambda: MultiScaleSubbandCQTDiscriminator(
            8000, 4, hop_lengths=[128], bins_per_octaves=[12], n_octaves=7
        ),
    ],
)
def test_logits_of_discriminators_start_at_scale_1(adversary) -> None:
    """Otherwise they start as a constant that ignores the audio, and learn for long to see it."""
    torch.manual_seed(0)
    adversary, x = adversary(), signal()
    with torch.no_grad():
        assert max(logits.std() for logits in adversary(x)[0]) < 0.3
        data_dependent_init(adversary, lambda: adversary(x))
        for logits in adversary(x)[0]:
            assert abs(logits.mean()) < 1e-3 and abs(logits.std(correction=0) - 1) < 1e-2


def test_spectral_norm_keeps_its_scale_and_silence_changes_nothing() -> None:
    torch.manual_seed(0)
    adversary = MultiScaleDiscriminator(filters=4, max_filters=16, scale_norms=["spectral_norm"])
    state = {key: value.clone() for key, value in adversary.state_dict().items()}
    adversary.eval()
    assert data_dependent_init(adversary, lambda: adversary(signal())) == []
    for key, value in adversary.state_dict().items():
        assert torch.equal(value, state[key]), key
    conv = nn.Conv1d(1, 2, 3, bias=False)
    weight = conv.weight.detach().clone()
    data_dependent_init(conv, lambda: conv(torch.zeros(1, 1, 8)))
    assert torch.equal(conv.weight, weight)
