import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from adversarial_trainer.adversarial.discriminators import (
    MultiScaleDiscriminator,
    ScaleDiscriminator,
)

TINY = {"filters": 4, "max_filters": 8}


def weight_of(conv):
    g, v = (conv.parametrizations.weight.original0, conv.parametrizations.weight.original1)
    return g * v / v.flatten(1).norm(dim=1).view(-1, 1, 1)


def test_layers_are_melgans():
    """MelGAN's table (arXiv 1910.06711, appendix A), which is AudioCraft's default too."""
    disc = ScaleDiscriminator()
    convs = [disc.convs[0][1].conv, *[layer.conv for layer in disc.convs[1:]], disc.conv_post.conv]
    assert [tuple(conv.weight.shape) for conv in convs] == [
        (16, 1, 15),
        (64, 4, 41),
        (256, 4, 41),
        (1024, 4, 41),
        (1024, 4, 41),
        (1024, 1024, 5),
        (1, 1024, 3),
    ]
    assert [conv.stride for conv in convs] == [(1,), (4,), (4,), (4,), (4,), (1,), (1,)]
    assert [conv.groups for conv in convs] == [1, 4, 16, 64, 256, 1, 1]
    weights = 240 + 41 * 4 * (64 + 256 + 1024 + 1024) + 1024 * 1024 * 5 + 1024 * 3
    biases = 16 + 64 + 256 + 3 * 1024 + 1
    assert sum(p.numel() for p in disc.parameters()) == weights + 2 * biases


def test_against_functional_reference():
    torch.manual_seed(0)
    disc = ScaleDiscriminator(
        2, 3, filters=4, max_filters=32, downsample_scales=[2, 4], groups=[2, 1]
    ).double()
    x = torch.randn(2, 2, 201, dtype=torch.float64)
    logits, fmap = disc(x)

    z = F.pad(x, (7, 7), mode="reflect")
    strides, paddings, groups = (1, 2, 4, 1), (0, 10, 20, 2), (1, 2, 1, 1)
    layers = [disc.convs[0][1], *disc.convs[1:]]
    for i, layer in enumerate(layers):
        z = F.conv1d(
            z,
            weight_of(layer.conv),
            layer.conv.bias,
            stride=strides[i],
            padding=paddings[i],
            groups=groups[i],
        )
        z = torch.where(z > 0, z, 0.2 * z)
        assert torch.allclose(fmap[i], z, rtol=0, atol=1e-12)
    z = F.conv1d(z, weight_of(disc.conv_post.conv), disc.conv_post.conv.bias, padding=1)
    assert torch.allclose(logits, z, rtol=0, atol=1e-12)
    assert len(fmap) == 5 and fmap[-1] is logits


def test_scales_really_downsample():
    """Scale s hears the audio average-pooled s times, by hand here."""
    torch.manual_seed(0)
    disc = MultiScaleDiscriminator(**TINY)
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
        expected = torch.stack(
            [padded[..., i : i + 4].mean(-1) for i in range(0, padded.shape[-1] - 3, 2)], dim=-1
        )


def test_later_scales_do_not_hear_the_highest_frequency():
    """A tone at the Nyquist frequency is averaged away before the second scale."""
    torch.manual_seed(0)
    disc = MultiScaleDiscriminator(scale_norms=["weight_norm"] * 2, **TINY)
    x = torch.zeros(1, 1, 1000)
    tone = torch.tensor([1.0, -1.0]).repeat(500).view(1, 1, -1)
    inside = slice(50, -50)  # away from the pooling's zero padding
    assert disc.preprocess(1, tone)[..., inside].abs().max() < 1e-6
    assert (disc.forward_one(0, tone)[0] - disc.forward_one(0, x)[0]).abs().max() > 1e-4


def test_state_dict_keys_are_audiocrafts():
    disc = MultiScaleDiscriminator(scale_norms=["spectral_norm"], downsample_scales=[4], **TINY)
    layers = ["convs.0.1", "convs.1", "convs.2", "conv_post"]
    names = [
        "bias",
        "parametrizations.weight.original",
        "parametrizations.weight.0._u",
        "parametrizations.weight.0._v",
    ]
    assert set(disc.state_dict()) == {
        f"discriminators.0.{layer}.conv.{name}" for layer in layers for name in names
    }


@settings(deadline=None, max_examples=20)
@given(length=st.integers(1, 600), channels=st.integers(1, 2), factor=st.integers(1, 4))
def test_any_length(length, channels, factor):
    disc = MultiScaleDiscriminator(channels, downsample_factor=factor, **TINY)
    x = torch.randn(2, channels, length, requires_grad=True)
    logits, fmaps = disc(x)
    assert len(logits) == len(fmaps) == disc.num_discriminators == 3
    assert logits[0].shape == (2, 1, math.ceil(length / 256))
    assert all(logit.isfinite().all() and logit.shape[-1] >= 1 for logit in logits)
    assert all(len(fmap) == 7 for fmap in fmaps)
    sum(logit.sum() for logit in logits).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("pad", ["ReflectionPad1d", "ReplicationPad1d", "ZeroPad1d"])
def test_pads_of_one_sample(pad):
    assert ScaleDiscriminator(pad=pad, **TINY)(torch.ones(1, 1, 1))[0].shape == (1, 1, 1)


def test_inner_kernels_keep_the_length():
    disc = ScaleDiscriminator(inner_kernel_sizes=[9, 21, 41, 41], **TINY)
    assert disc(torch.randn(1, 1, 1024))[0].shape[-1] == 4


@pytest.mark.parametrize(
    "key, value",
    [
        ("kernel_sizes", [4, 3]),
        ("groups", [4, 4]),
        ("groups", [3, 3, 3, 3]),
        ("strides", [0] * 4),
        ("paddings", [-1] * 4),
        ("inner_kernel_sizes", [3]),
        ("scale_norms", "weight_norm"),
        ("scale_norms", ["wn"]),
        ("downsample_factor", 0),
        ("pad", "reflect"),
        ("pad_params", {"value": 1}),
        ("filters", 0),
    ],
)
def test_wrong_values_are_named(key, value):
    with pytest.raises(ValueError, match=key.removeprefix("scale_").removesuffix("s")):
        MultiScaleDiscriminator(**{key: value})
