import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from adversarial_trainer.adversarial.discriminators import (
    MultiPeriodDiscriminator,
    PeriodDiscriminator,
)


def weight_of(conv):
    """Weight norm by hand (arXiv 1602.07868): g v / ||v||, a norm for each output channel."""
    g, v = (conv.parametrizations.weight.original0, conv.parametrizations.weight.original1)
    return g * v / v.flatten(1).norm(dim=1).view(-1, *[1] * (v.dim() - 1))


def test_layers_are_hifi_gans():
    """The table of HiFi-GAN's (and AudioCraft's) sizes, and its 41.1 M parameters."""
    disc = PeriodDiscriminator(3)
    convs = [layer.conv for layer in [*disc.convs, disc.conv_post]]
    assert [tuple(conv.weight.shape) for conv in convs] == [
        (32, 1, 5, 1),
        (128, 32, 5, 1),
        (512, 128, 5, 1),
        (1024, 512, 5, 1),
        (1024, 1024, 5, 1),
        (1, 1024, 3, 1),
    ]
    assert [conv.stride for conv in convs] == [(3, 1)] * 4 + [(1, 1)] * 2
    assert [conv.padding for conv in convs] == [(2, 0)] * 5 + [(1, 0)]
    assert 5 * sum(p.numel() for p in disc.parameters()) == 41_105_770


def test_state_dict_keys_are_audiocrafts():
    keys = set(MultiPeriodDiscriminator(periods=[2, 3], filters=1, n_layers=2).state_dict())
    expected = {
        f"discriminators.{i}.{layer}.conv.{name}"
        for i in range(2)
        for layer in ("convs.0", "convs.1", "conv_post")
        for name in (
            "bias",
            "parametrizations.weight.original0",
            "parametrizations.weight.original1",
        )
    }
    assert keys == expected


@pytest.mark.parametrize("period, length", [(2, 64), (3, 64), (5, 103), (7, 700)])
def test_against_functional_reference(period, length):
    torch.manual_seed(0)
    disc = PeriodDiscriminator(
        period, in_channels=2, filters=2, max_filters=16, activation_params={"negative_slope": 0.3}
    ).double()
    x = torch.randn(2, 2, length, dtype=torch.float64)
    logits, fmap = disc(x)

    rows = -(-length // period)
    folded = F.pad(x, (0, rows * period - length), mode="reflect")
    z = torch.stack([folded[..., column::period] for column in range(period)], dim=-1)
    for i, layer in enumerate(disc.convs):
        z = F.conv2d(
            z,
            weight_of(layer.conv),
            layer.conv.bias,
            stride=(1 if i == 4 else 3, 1),
            padding=(2, 0),
        )
        z = torch.where(z > 0, z, 0.3 * z)
        assert torch.allclose(fmap[i], z, rtol=0, atol=1e-12)
    z = F.conv2d(z, weight_of(disc.conv_post.conv), disc.conv_post.conv.bias, padding=(1, 0))
    assert torch.allclose(logits, z, rtol=0, atol=1e-12)
    assert len(fmap) == 6 and fmap[-1] is logits


def test_columns_are_not_mixed():
    """A change of sample t reaches only the outputs of column t mod period."""
    torch.manual_seed(0)
    disc = PeriodDiscriminator(5, filters=2, max_filters=8)
    x = torch.randn(1, 1, 500)
    y = x.clone()
    y[..., 253] += 1
    changed = (disc(x)[0] != disc(y)[0]).flatten(0, 2).any(dim=0)
    assert changed.tolist() == [False, False, False, True, False]


@settings(deadline=None, max_examples=20)
@given(length=st.integers(1, 300), channels=st.integers(1, 2), batch=st.integers(1, 2))
def test_any_length(length, channels, batch):
    disc = MultiPeriodDiscriminator(in_channels=channels, filters=1, max_filters=4)
    x = torch.randn(batch, channels, length, requires_grad=True)
    logits, fmaps = disc(x)
    assert len(logits) == len(fmaps) == disc.num_discriminators == 5
    for logit, fmap, period in zip(logits, fmaps, (2, 3, 5, 7, 11), strict=True):
        assert logit.shape[:2] == (batch, 1) and logit.shape[2] >= 1 and logit.shape[3] == period
        assert logit.isfinite().all() and len(fmap) == 6
    sum(logit.sum() for logit in logits).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    "key, value",
    [
        ("kernel_sizes", [5]),
        ("kernel_sizes", [4, 3]),
        ("kernel_sizes", 5),
        ("periods", []),
        ("periods", [2, 0]),
        ("periods", "23"),
        ("stride", 0),
        ("filters", 1.5),
        ("n_layers", 0),
        ("activation", "Relu"),
        ("activation_params", {"slope": 1}),
        ("norm", "weightnorm"),
    ],
)
def test_wrong_values_are_named(key, value):
    with pytest.raises(ValueError, match=f"(?s){key}.*") as error:
        MultiPeriodDiscriminator(**{key: value})
    shown = value if not isinstance(value, dict) else "slope"
    assert str(shown).strip("[]") in str(error.value)


def test_wrong_keys_are_refused():
    """Keys that AudioCraft's own YAML has and its constructor does not."""
    for key in ("kernel_size", "filter_scales"):
        with pytest.raises(TypeError, match=key):
            MultiPeriodDiscriminator(**{key: 5})


def test_wrong_channels():
    with pytest.raises(ValueError, match=r"in_channels=1.*\[2, 2, 100\]"):
        MultiPeriodDiscriminator(filters=1, max_filters=4)(torch.zeros(2, 2, 100))
