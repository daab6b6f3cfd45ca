"""The multi-resolution MDCT discriminator against a plain one."""

from __future__ import annotations

import pytest
import scipy.fft
import torch
from torch.nn import functional as F

from adversarial_trainer.adversarial import DISCRIMINATORS


def coefficients(x: torch.Tensor, n: int) -> torch.Tensor:
    """MDCT `[B, C, n, F]` by scipy's DCT-IV, with n zeros on both sides."""
    window = torch.sin(torch.pi / (2 * n) * (torch.arange(2 * n) + 0.5))
    frames = F.pad(x, (n, n + -x.shape[-1] % n)).unfold(-1, 2 * n, n) * window
    a, b, c, d = frames.unflatten(-1, (4, n // 2)).unbind(-2)
    folded = torch.cat([-c.flip(-1) - d, a - b.flip(-1)], -1)
    return torch.from_numpy(scipy.fft.dct(folded.numpy(), type=4, norm="ortho")).transpose(-1, -2)


def test_equals_the_plain_one() -> None:
    torch.manual_seed(0)
    disc = DISCRIMINATORS.build("mrmdct", in_channels=2, filters=4)
    assert disc.names == ["mdct50", "mdct200", "mdct20"]
    x = torch.randn(2, 2, 3001)
    layers = [(2, 2), (2, 1), (2, 2), (2, 1), (2, 2)]
    outputs = zip(*disc(x), strict=True)
    for sub, n, (logits, fmap) in zip(disc.discriminators, (50, 200, 20), outputs, strict=True):
        assert len(fmap) == 6 and torch.equal(fmap[-1], logits)
        z = coefficients(x, n)
        for conv, stride, found in zip(sub.convs, layers, fmap, strict=False):
            weight, bias = conv.conv.weight, conv.conv.bias
            z = F.conv2d(z, weight, bias, stride, [size // 2 for size in weight.shape[2:]])
            z = torch.where(z > 0, z, 0.2 * z)
            torch.testing.assert_close(found, z, rtol=0, atol=1e-5)
        z = F.conv2d(z, sub.conv_post.conv.weight, sub.conv_post.conv.bias, padding=1)
        torch.testing.assert_close(logits, z, rtol=0, atol=1e-5)


def test_sizes_are_mdctcodecs() -> None:
    """Kernels by hand; weight norm adds a number for each filter."""
    disc = DISCRIMINATORS.build("mrmdct")
    kernels = 64 * (35 + 64 * (15 + 15 + 9 + 9)) + 64 * 9
    biases = scales = 5 * 64 + 1
    assert sum(p.numel() for p in disc.parameters()) == 3 * (kernels + biases + scales)


@pytest.mark.parametrize("length", [1, 19, 200, 777])
def test_any_length_and_its_gradient(length: int) -> None:
    disc = DISCRIMINATORS.build("mrmdct", filters=2)
    x = torch.randn(2, 1, length, requires_grad=True)
    sum(logits.sum() for logits in disc(x)[0]).backward()
    assert x.grad is not None and x.grad.isfinite().all() and (x.grad != 0).all()
    with pytest.raises(ValueError, match=rf"in_channels=1.*\[2, 3, {length}\]"):
        disc(torch.zeros(2, 3, length))


def test_wrong_values_are_named() -> None:
    for key, value in (("num_coefficients", []), ("num_coefficients", [0]), ("filters", 0)):
        with pytest.raises(ValueError, match=key):
            DISCRIMINATORS.build("mrmdct", **{key: value})
