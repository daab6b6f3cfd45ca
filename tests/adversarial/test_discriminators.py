"""What all families share; the multi-period and the multi-scale discriminators."""

from itertools import pairwise

import pytest
import torch
from adversaries import build
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from adversarial_trainer.adversarial import DISCRIMINATORS, JointDiscriminator
from adversarial_trainer.adversarial.discriminators import (
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
    PeriodDiscriminator,
    ScaleDiscriminator,
)


def weight_of(conv):
    """Weight norm by hand (arXiv 1602.07868): g v / ||v||, a norm for each output channel."""
    g, v = conv.parametrizations.weight.original0, conv.parametrizations.weight.original1
    return g * v / v.flatten(1).norm(dim=1).view(-1, *[1] * (v.dim() - 1))


def test_joint_is_its_families_in_turn():
    parts = {name: build(name).eval() for name in ("msstftd", "mpd", "msd")}
    joint = JointDiscriminator(parts)
    x = torch.randn(2, 1, 200)
    subs = [(family, index) for family in parts.values() for index in range(2)]
    assert joint.names == [f"{name}.{sub}" for name, d in parts.items() for sub in d.names]
    assert len(set(joint.names)) == joint.num_discriminators == 6
    logits, fmaps = joint(x)
    assert [len(fmap) for fmap in fmaps] == [4, 4, 6, 6, 7, 7]
    for index, (family, local) in enumerate(subs):
        alone, maps = family.forward_one(local, x)
        assert torch.equal(alone, logits[index]) and torch.equal(alone, family(x)[0][local])
        assert all(torch.equal(a, b) for a, b in zip(maps, fmaps[index], strict=True))
    with pytest.raises(ValueError, match="at least one"):
        JointDiscriminator({})


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(["msstftd", "mpd", "msd"]),
    length=st.integers(1, 600),
    channels=st.integers(1, 2),
)
def test_any_length(name, length, channels):
    disc = build(name, in_channels=channels)
    x = torch.randn(2, channels, length, requires_grad=True)
    logits, fmaps = disc(x)
    assert len(logits) == len(fmaps) == disc.num_discriminators == len(disc.names)
    first = {
        "msstftd": (2, 1, max(length - 64, 0) // 16 + 1, 9),
        "mpd": (2, 1, -(-length // 2 // 81), 2),
        "msd": (2, 1, -(-length // 256)),
    }
    assert logits[0].shape == first[name]
    sum(logit.sum() for logit in logits).backward()
    assert x.grad.isfinite().all()
    with pytest.raises(ValueError, match=rf"in_channels={channels}.*\[2, 3, {length}\]"):
        disc(torch.zeros(2, 3, length))
    with pytest.raises(ValueError, match="time >= 1"):
        disc(x[..., :0])


WRONG = [
    *[("mpd", "kernel_sizes", value) for value in ([5], [0, 3], 5)],
    *[("mpd", "periods", value) for value in ([], [2, 0], "23")],
    *[("mpd", "stride", 0), ("mpd", "filters", 1.5), ("mpd", "n_layers", 0)],
    *[("mpd", "activation", "Relu"), ("mpd", "norm", "weightnorm")],
    *[("msd", "kernel_sizes", [4, 3]), ("msd", "groups", [4, 4]), ("msd", "groups", [3] * 4)],
    *[("msd", "strides", [0] * 4), ("msd", "paddings", [-1] * 4)],
    *[("msd", "inner_kernel_sizes", [3]), ("msd", "scale_norms", "weight_norm")],
    *[("msd", "downsample_factor", 0), ("msd", "pad", "reflect"), ("msd", "filters", 0)],
    *[("msstftd", "hop_lengths", [256]), ("msstftd", "win_lengths", [2048, 2048, 512])],
    *[("msstftd", "kernel_size", [3]), ("msstftd", "dilations", [0]), ("msstftd", "stride", 2)],
    *[("msstftd", "n_ffts", None), ("msstftd", "in_channels", "1"), ("msstftd", "norm", "batch")],
]


@pytest.mark.parametrize("name, key, value", WRONG)
def test_wrong_values_are_named(name, key, value):
    with pytest.raises(ValueError, match=key.removesuffix("s")):
        DISCRIMINATORS.build(
            name, **{"filters": 4, key: value} if name == "msstftd" else {key: value}
        )


def test_mpd_layers_are_hifi_gans():
    """The table of HiFi-GAN's (and AudioCraft's) sizes, and its 41.1 M parameters."""
    disc = PeriodDiscriminator(3)
    convs = [layer.conv for layer in [*disc.convs, disc.conv_post]]
    widths = [1, 32, 128, 512, 1024, 1024, 1]
    assert [(c.in_channels, c.out_channels) for c in convs] == [*pairwise(widths)]
    assert [c.kernel_size for c in convs] == [(5, 1)] * 5 + [(3, 1)]
    assert [c.stride for c in convs] == [(3, 1)] * 4 + [(1, 1)] * 2
    assert [c.padding for c in convs] == [(2, 0)] * 5 + [(1, 0)]
    assert 5 * sum(p.numel() for p in disc.parameters()) == 41_105_770


def test_msd_layers_are_melgans():
    """MelGAN's table (arXiv 1910.06711, appendix A), which is AudioCraft's default too."""
    disc = ScaleDiscriminator()
    convs = [disc.convs[0][1].conv, *[layer.conv for layer in disc.convs[1:]], disc.conv_post.conv]
    widths = [1, 16, 64, 256, 1024, 1024, 1024, 1]
    assert [(c.in_channels, c.out_channels) for c in convs] == [*pairwise(widths)]
    assert [c.kernel_size for c in convs] == [(15,), (41,), (41,), (41,), (41,), (5,), (3,)]
    assert [c.stride for c in convs] == [(1,), (4,), (4,), (4,), (4,), (1,), (1,)]
    assert [c.groups for c in convs] == [1, 4, 16, 64, 256, 1, 1]


@pytest.mark.parametrize("name, norm", [("mpd", "weight_norm"), ("msd", "spectral_norm")])
def test_state_dict_keys_are_audiocrafts(name, norm):
    options = {"mpd": {"periods": [2], "n_layers": 2}, "msd": {"scale_norms": [norm]}}
    disc = DISCRIMINATORS.build(name, filters=4, max_filters=4, **options[name])
    layers = ["convs.0", "convs.1", "conv_post"]
    if name == "msd":
        layers = ["convs.0.1", *(f"convs.{i}" for i in range(1, 6)), "conv_post"]
    names = {
        "weight_norm": ["weight.original0", "weight.original1"],
        "spectral_norm": ["weight.original", "weight.0._u", "weight.0._v"],
    }
    ends = ["bias", *(f"parametrizations.{end}" for end in names[norm])]
    expected = {f"discriminators.0.{layer}.conv.{end}" for layer in layers for end in ends}
    assert set(disc.state_dict()) == expected


@pytest.mark.parametrize("period, length", [(2, 64), (3, 64), (5, 103), (7, 700)])
def test_mpd_against_functional_reference(period, length):
    torch.manual_seed(0)
    disc = PeriodDiscriminator(
        period, in_channels=2, filters=2, max_filters=16, activation_params={"negative_slope": 0.3}
    ).double()
    x = torch.randn(2, 2, length, dtype=torch.float64)
    logits, fmap = disc(x)
    rows = -(-length // period)
    folded = F.pad(x, (0, rows * period - length), mode="reflect")
    z = torch.stack([folded[..., column::period] for column in range(period)], dim=-1)
    for i, layer in enumerate([*disc.convs, disc.conv_post]):
        stride, padding = (1 if i >= 4 else 3, 1), (1 if i == 5 else 2, 0)
        z = F.conv2d(z, weight_of(layer.conv), layer.conv.bias, stride, padding)
        z = torch.where((z > 0) | torch.tensor(i == 5), z, 0.3 * z)
        assert torch.allclose(fmap[i], z, rtol=0, atol=1e-12)
    assert len(fmap) == 6 and fmap[-1] is logits


def test_msd_against_functional_reference():
    torch.manual_seed(0)
    disc = ScaleDiscriminator(
        2, 3, filters=4, max_filters=32, downsample_scales=[2, 4], groups=[2, 1]
    ).double()
    x = torch.randn(2, 2, 201, dtype=torch.float64)
    logits, fmap = disc(x)
    z = F.pad(x, (7, 7), mode="reflect")
    strides, paddings, groups = (1, 2, 4, 1, 1), (0, 10, 20, 2, 1), (1, 2, 1, 1, 1)
    for i, layer in enumerate([disc.convs[0][1], *disc.convs[1:], disc.conv_post]):
        conv = layer.conv
        z = F.conv1d(z, weight_of(conv), conv.bias, strides[i], paddings[i], groups=groups[i])
        z = torch.where((z > 0) | torch.tensor(i == 4), z, 0.2 * z)
        assert torch.allclose(fmap[i], z, rtol=0, atol=1e-12)
    assert len(fmap) == 5 and fmap[-1] is logits


def test_columns_are_not_mixed():
    """A change of sample t reaches only the outputs of column t mod period."""
    torch.manual_seed(0)
    disc = MultiPeriodDiscriminator(periods=[5], filters=2, max_filters=8)
    x = torch.randn(1, 1, 500)
    y = x.clone()
    y[..., 253] += 1
    changed = (disc(x)[0][0] != disc(y)[0][0]).flatten(0, 2).any(dim=0)
    assert changed.tolist() == [False, False, False, True, False]


def test_scales_really_downsample():
    """Scale s hears the audio average-pooled s times, by hand here."""
    disc = MultiScaleDiscriminator(filters=4, max_filters=8)
    heard = []
    for sub in disc.discriminators:
        sub.register_forward_pre_hook(lambda module, args: heard.append(args[0]))
    x = torch.randn(1, 1, 400)
    logits, _ = disc(x)
    assert [h.shape[-1] for h in heard] == [400, 201, 101]
    expected = x
    for scale in range(3):
        assert torch.allclose(heard[scale], expected, atol=1e-6)
        assert torch.equal(logits[scale], disc.discriminators[scale](heard[scale])[0])
        padded = F.pad(expected, (2, 2))
        expected = padded.unfold(-1, 4, 2).mean(-1)


@pytest.mark.parametrize("pad", ["ReflectionPad1d", "ReplicationPad1d", "ZeroPad1d"])
def test_pads_of_one_sample(pad):
    disc = ScaleDiscriminator(pad=pad, filters=4, max_filters=8)
    assert disc(torch.ones(1, 1, 1))[0].shape == (1, 1, 1)
