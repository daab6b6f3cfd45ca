import encodec.msstftd
import numpy as np
import pytest
import scipy.signal
import torch
from torch.nn import functional as F

from adversarial_trainer.adversarial.discriminators import (
    DiscriminatorSTFT,
    MultiScaleSTFTDiscriminator,
)

SMALL = {"n_ffts": [64, 32], "hop_lengths": [16, 8], "win_lengths": [64, 32]}


@pytest.mark.parametrize("length", [2048, 3001, 7000])
@pytest.mark.parametrize("channels", [1, 2])
def test_equals_the_published_encodec(length, channels):
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


@pytest.mark.parametrize("normalized", [True, False])
def test_spectrogram_against_scipy(normalized):
    disc = DiscriminatorSTFT(
        1, 2, n_fft=64, hop_length=16, win_length=64, normalized=normalized
    ).double()
    x = torch.randn(1, 2, 500, dtype=torch.float64)
    z = disc.spectrogram(x)
    window = disc.spec_transform.window.numpy()
    _, _, wanted = scipy.signal.stft(
        x.numpy(), window=window, nperseg=64, noverlap=48, boundary=None, padded=False
    )
    wanted = wanted * window.sum()  # scipy divides by the window's sum
    if normalized:
        wanted = wanted / np.sqrt((window**2).sum())
    assert z.dtype == torch.float64 and z.shape == (1, 4, 28, 33)
    assert np.allclose(z[:, :2].transpose(2, 3), wanted.real, atol=1e-9)
    assert np.allclose(z[:, 2:].transpose(2, 3), wanted.imag, atol=1e-9)


def test_short_input_is_padded_with_silence():
    torch.manual_seed(0)
    disc = DiscriminatorSTFT(2, n_fft=64, hop_length=16, win_length=64)
    x = torch.randn(1, 1, 20)
    assert torch.equal(disc(x)[0], disc(F.pad(x, (22, 22)))[0])


def test_separate_channels_are_separate_items():
    torch.manual_seed(0)
    disc = MultiScaleSTFTDiscriminator(2, in_channels=2, sep_channels=True, **SMALL)
    x = torch.randn(3, 2, 300)
    logits, fmaps = disc(x)
    for b in range(3):
        for c in range(2):
            alone, alone_maps = disc(x[b : b + 1, c : c + 1])
            for sub in range(2):
                item = 2 * b + c
                assert torch.allclose(logits[sub][item], alone[sub][0], atol=1e-6)
                assert torch.allclose(fmaps[sub][0][item], alone_maps[sub][0][0], atol=1e-6)
    together = MultiScaleSTFTDiscriminator(2, in_channels=2, **SMALL)
    assert together(x)[0][0].shape[0] == 3


def test_spectrogram_is_float32_under_autocast():
    """A bfloat16 STFT would be off by 1e-2."""
    disc = DiscriminatorSTFT(2, n_fft=64, hop_length=16, win_length=64)
    x = torch.randn(1, 1, 500)
    with torch.autocast("cpu", torch.bfloat16):
        z = disc.spectrogram(x)
        logits, _ = disc(x)
    assert z.dtype == torch.float32 and torch.equal(z, disc.spectrogram(x))
    assert logits.dtype == torch.bfloat16
    half = disc.spectrogram(x.bfloat16())
    assert torch.equal(half, disc.spectrogram(x.bfloat16().float()))


def test_convolutions_of_one_bin():
    """Strided 1x1 convolutions over channels-last input corrupt the heap in oneDNN's backward."""
    disc = DiscriminatorSTFT(2, n_fft=510, hop_length=64, win_length=510, kernel_size=(1, 1))
    seen = []
    for conv in disc.convs:
        conv.register_forward_pre_hook(lambda module, args: seen.append(args[0].is_contiguous()))
    logits, _ = disc(torch.randn(4, 1, 8000))
    logits.square().mean().backward()
    assert seen == [True] * 5


def test_equal_fft_sizes_have_different_names():
    disc = MultiScaleSTFTDiscriminator(
        1, n_ffts=[64, 32, 64], hop_lengths=[16, 8, 32], win_lengths=[64, 32, 64]
    )
    assert disc.names == ["fft64", "fft32", "fft64_2"]
