"""Lapped transforms against scipy and torch, and their inverses at the ends of a signal."""

from __future__ import annotations

import math

import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from adversarial_trainer.modules.companding import EPS, Compress, Expand
from adversarial_trainer.modules.lapped import (
    InverseLappedTransform,
    LappedTransform,
    mdct_basis,
    stft_basis,
)

BASES = {
    "mdct 40": (mdct_basis(40), 40),
    "mdct 2": (mdct_basis(2), 2),
    "half": (stft_basis(32), 16),
    "quarter": (stft_basis(64), 16),
    "third": (stft_basis(24), 8),
}


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from([*BASES]), length=st.integers(1, 200), channels=st.integers(1, 2))
def test_inverse_gives_back_every_sample(name: str, length: int, channels: int) -> None:
    """The first and the last too, of signals shorter than a hop too."""
    (analysis, synthesis, window), hop = BASES[name]
    x = torch.randn(2, channels, length, generator=torch.Generator().manual_seed(length))
    z = LappedTransform(analysis, hop)(x)
    assert z.shape == (2, channels * len(analysis), math.ceil(length / hop))
    y = InverseLappedTransform(synthesis, hop, window, channels)(z)
    assert y.shape == (2, channels, z.shape[-1] * hop)
    torch.testing.assert_close(y[..., :length], x, rtol=0, atol=5e-6)
    assert y[..., length:].abs().max() < 5e-6 if y.shape[-1] > length else True
    z = LappedTransform(analysis, hop, multiple=3 * hop)(x)
    assert z.shape[-1] == 3 * math.ceil(length / (3 * hop))


def test_mdct_is_scipys_dct_iv_of_folded_blocks() -> None:
    """Window, fold quarters a b c d to -c_r - d, a - b_r, DCT-IV. Energy is kept."""
    n = 40
    basis, _, window = mdct_basis(n)
    x = torch.randn(1, 1, 11 * n)
    z = LappedTransform(basis, n)(x)[0].T
    padded = F.pad(x, (n // 2, n // 2))[0, 0].double().numpy()
    for k in range(11):
        a, b, c, d = (padded[k * n : (k + 2) * n] * window.numpy()).reshape(4, n // 2)
        folded = [*(-c[::-1] - d), *(a - b[::-1])]
        wanted = scipy.fft.dct(folded, type=4, norm="ortho")
        torch.testing.assert_close(z[k].double(), torch.from_numpy(wanted), rtol=0, atol=1e-5)
    inside = torch.cat([x[..., :1] * 0, F.pad(x[..., n : 10 * n], (n, n - 1))], -1)
    z = LappedTransform(basis, n)(inside)
    assert z.square().sum() == pytest.approx(float(inside.square().sum()), rel=1e-5)


def test_stft_is_torchs() -> None:
    analysis, synthesis, window = stft_basis(64)
    x = torch.randn(2, 1, 320)
    z = LappedTransform(analysis, 16)(x)
    wanted = torch.stft(
        F.pad(x[:, 0], (24, 24)), 64, 16, window=window.float(), center=False, return_complex=True
    )
    torch.testing.assert_close(z, torch.cat([wanted.real, wanted.imag], 1), rtol=0, atol=2e-5)
    # Vocos' inverse STFT with padding 'same', of numbers that are no signal's spectrum.
    z = torch.randn(2, 66, 20)
    frames = torch.fft.irfft(torch.complex(z[:, :33], z[:, 33:]).transpose(1, 2), 64)
    frames = (frames * window.float()).transpose(1, 2)
    size = dict(output_size=(1, 19 * 16 + 64), kernel_size=(1, 64), stride=(1, 16))
    total = F.fold(frames, **size)[:, 0, :, 24:-24]
    weights = window.float().square()[None, :, None].expand(1, 64, 20)
    wanted = total / F.fold(weights, **size)[:, 0, :, 24:-24]
    y = InverseLappedTransform(synthesis, 16, window, 1)(z)
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)


def test_float32_under_autocast_and_no_parameters() -> None:
    basis, _, window = mdct_basis(40)
    forward, inverse = LappedTransform(basis, 40), InverseLappedTransform(basis, 40, window, 1)
    x = torch.randn(1, 1, 333)
    with torch.autocast("cpu", torch.bfloat16):
        z = forward(x)
        y = inverse(z.bfloat16())
    assert torch.equal(z, forward(x)) and y.dtype == torch.float32
    assert torch.equal(y, inverse(z.bfloat16().float()))
    for module in (forward, inverse):
        assert not module.state_dict() and not list(module.parameters())
    for hop in (30, 80, 5):  # a window of 80 is not centred on hops of 5
        with pytest.raises(ValueError, match=f"even number .* hop_length={hop}"):
            LappedTransform(basis, hop)


def test_companding() -> None:
    """Inverse of one another, sign(x) sqrt|x| above EPS, with bounded slopes."""
    compress, expand = Compress(), Expand()
    x = torch.linspace(-3, 3, 6001, dtype=torch.float64).view(1, -1, 1).requires_grad_()
    y = compress(x)
    torch.testing.assert_close(expand(y), x, rtol=1e-12, atol=1e-14)
    large = x.abs() > 20 * EPS
    torch.testing.assert_close(y[large], (x.sign() * x.abs().sqrt())[large], rtol=1e-3, atol=0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope.max() == pytest.approx(EPS**-0.5) and slope.min() > 0
    y = y.detach().requires_grad_()
    (slope,) = torch.autograd.grad(expand(y).sum(), y)
    assert slope.min() == pytest.approx(EPS**0.5)
    z = torch.zeros(1, 3, 1, requires_grad=True)
    (slope,) = torch.autograd.grad(expand(compress(z)).sum(), z)
    assert torch.allclose(slope, torch.ones(1, 3, 1))
