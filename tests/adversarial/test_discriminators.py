"""Discriminators, against the published MS-STFT and the plain ones."""

from itertools import pairwise

import encodec.msstftd
import pytest
import torch
from adversaries import build
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import composed
from plain.discriminators import Discriminators
from torch.nn import functional as F

from adversarial_trainer.adversarial import (
    DISCRIMINATORS,
    JointDiscriminator,
    MultiScaleSTFTDiscriminator,
)
from adversarial_trainer.adversarial.discriminators.mpd import PeriodDiscriminator
from adversarial_trainer.adversarial.discriminators.msd import ScaleDiscriminator
from adversarial_trainer.adversarial.discriminators.msstftd import DiscriminatorSTFT
from adversarial_trainer.models.builders import to_params


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
    name=st.sampled_from(["msstftd", "mpd", "msd", "mrd", "cqt"]),
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
        "mrd": (2, 1, -(-length // 16), 5),
        "cqt": (2, 1, max(2 * length, 8) // 32 + 1, 6),
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
    *[("mrd", "n_ffts", []), ("mrd", "bands", []), ("mrd", "bands", [[0.5, 0.25]])],
    *[("mrd", "bands", [[0, 1e-4]]), ("mrd", "bands", [[0, 1.5]]), ("mrd", "bands", [0.5])],
    *[("mrd", "strides", [1, 2]), ("mrd", "strides", [[1, 0]]), ("mrd", "kernel_sizes", [[3, 9]])],
    *[("mrd", "hop_factor", 0), ("mrd", "hop_factor", 2), ("mrd", "padding", "reflect")],
    *[
        ("cqt", "bins_per_octaves", [24]),
        ("cqt", "hop_lengths", [300] * 3),
        ("cqt", "n_octaves", 10),
    ],
    *[("cqt", "bins_per_octaves", [0] * 3), ("cqt", "dilations", [])],
]


@pytest.mark.parametrize("name, key, value", WRONG)
def test_wrong_values_are_named(name, key, value):
    with pytest.raises(ValueError, match=key.removesuffix("s")):
        needed = {"msstftd": {"filters": 4}, "cqt": {"filters": 4, "sample_rate": 24000}}
        DISCRIMINATORS.build(name, **needed.get(name, {}) | {key: value})


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


@pytest.mark.parametrize(
    "name, options",
    [
        ("msstftd", {"filters": 4, "normalized": False, "filters_scale": 2, "max_filters": 24}),
        ("mpd", {"filters": 2, "max_filters": 16, "activation_params": {"negative_slope": 0.3}}),
        ("msd", {"filters": 4, "max_filters": 32, "downsample_scales": [2, 4], "groups": [2, 1]}),
        ("msd", {"filters": 4, "max_filters": 8, "scale_norms": ["spectral_norm", "none"]}),
    ],
)
def test_equals_the_plain_one(name, options):
    """And its state dict has the same keys, which are AudioCraft's."""
    options = to_params(composed().adversarial[name]) | options
    disc = DISCRIMINATORS.build(name, in_channels=2, **options).double().eval()
    plain = Discriminators(name, 2, options).double().eval()
    plain.load_state_dict(disc.state_dict())
    x = torch.randn(2, 2, 3001, dtype=torch.float64)
    torch.testing.assert_close(disc(x), plain(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [2048, 3001, 7000])
@pytest.mark.parametrize("channels", [1, 2])
def test_msstftd_equals_the_published_encodec(length, channels):
    """Loads its state dict (weight_g / weight_v) and gives its outputs."""
    torch.manual_seed(0)
    reference = encodec.msstftd.MultiScaleSTFTDiscriminator(filters=8, in_channels=channels)
    disc = MultiScaleSTFTDiscriminator(filters=8, in_channels=channels)
    state = reference.state_dict()
    assert "discriminators.0.convs.1.conv.weight_g" in state
    disc.load_state_dict(state)
    x = torch.randn(2, channels, length)
    logits, fmaps = disc(x)
    wanted_logits, wanted_fmaps = reference(x)
    assert disc.num_discriminators == reference.num_discriminators == 3
    for ours, theirs in zip(logits, wanted_logits, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)
    for ours, theirs in zip(fmaps, wanted_fmaps, strict=True):
        assert len(ours) == len(theirs) == 5  # without the logits
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)


def test_short_input_is_padded_with_silence():
    torch.manual_seed(0)
    disc = DiscriminatorSTFT(2, n_fft=64, hop_length=16, win_length=64)
    x = torch.randn(1, 1, 20)
    assert torch.equal(disc(x)[0], disc(F.pad(x, (22, 22)))[0])


def test_separate_channels_are_separate_items():
    torch.manual_seed(0)
    disc = build("msstftd", in_channels=2, sep_channels=True)
    x = torch.randn(3, 2, 300)
    logits, fmaps = disc(x)
    for b in range(3):
        for c in range(2):
            alone, alone_maps = disc(x[b : b + 1, c : c + 1])
            for sub in range(2):
                item = 2 * b + c
                assert torch.allclose(logits[sub][item], alone[sub][0], atol=1e-6)
                assert torch.allclose(fmaps[sub][0][item], alone_maps[sub][0][0], atol=1e-6)
    together = build("msstftd", in_channels=2)
    assert together(x)[0][0].shape[0] == 3


@pytest.mark.parametrize("name", ["msstftd", "mrd"])
def test_spectrogram_is_float32_under_autocast(name):
    """A bfloat16 STFT would be off by 1e-2."""
    disc = build(name).discriminators[0]
    x = torch.randn(1, 1, 500)
    with torch.autocast("cpu", torch.bfloat16):
        z = disc.represent(x)
        logits, _ = disc(x)
    assert logits.isfinite().all()
    assert z.dtype == torch.float32 and torch.equal(z, disc.represent(x))
    assert logits.dtype == torch.bfloat16
    half = disc.represent(x.bfloat16())
    assert torch.equal(half, disc.represent(x.bfloat16().float()))


def test_convolutions_of_one_bin():
    """Strided 1x1 convolutions over channels-last input corrupt the heap in oneDNN's backward."""
    disc = DiscriminatorSTFT(2, n_fft=510, hop_length=64, win_length=510, kernel_size=(1, 1))
    seen = []
    for conv in disc.convs:
        conv.register_forward_pre_hook(lambda module, args: seen.append(args[0].is_contiguous()))
    logits, _ = disc(torch.randn(4, 1, 8000))
    logits.square().mean().backward()
    assert seen == [True] * 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mrd", "cqt"])
def test_compiled(name):
    """As `compile=true` does, a sub-discriminator alone: the same maps and gradients."""
    disc = build(name, in_channels=2)
    x = torch.randn(2, 2, 300)
    found = []
    for compiled in (False, True):
        if compiled:
            disc.discriminators[0].compile(backend="aot_eager", fullgraph=True)
        leaf = x.clone().requires_grad_()
        logits, fmap = disc.forward_one(0, leaf)
        logits.square().mean().backward()
        found.append([logits, *fmap, leaf.grad])
    for plain, traced in zip(*found, strict=True):
        torch.testing.assert_close(traced, plain, rtol=1e-4, atol=1e-5)


def test_equal_fft_sizes_have_different_names():
    disc = MultiScaleSTFTDiscriminator(
        1, n_ffts=[64, 32, 64], hop_lengths=[16, 8, 32], win_lengths=[64, 32, 64]
    )
    assert disc.names == ["fft64", "fft32", "fft64_2"]
