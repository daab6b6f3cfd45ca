"""Finite scalar quantization: values, codes, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adversarial_trainer.quantization.fsq import FSQuantizer


def build(seed: int = 0, **kwargs) -> FSQuantizer:
    torch.manual_seed(seed)
    defaults = {"dimension": 12, "levels": [8, 5, 3], "groups": 4}
    return FSQuantizer(**{**defaults, **kwargs}).double()


def plain(z: np.ndarray, levels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Values and codes of `z` `[N, len(levels)]`, as the listing in appendix A.1 of the paper."""
    L = np.array(levels)
    half = (L - 1) * (1 - 1e-3) / 2
    offset = np.where(L % 2 == 1, 0.0, 0.5)
    rounded = np.round(np.tanh(z + np.tan(offset / half)) * half - offset)
    values = rounded / (L // 2)
    basis = np.concatenate([[1], np.cumprod(L[:-1])])
    return values, ((values * (L // 2) + L // 2) * basis).sum(-1).round().astype(int)


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [7, 4], [2, 3], [5]])
def test_values_and_codes_of_the_paper(levels: list[int]) -> None:
    """Without a projection; every level occurs."""
    width = len(levels)
    fsq = build(dimension=2 * width, levels=levels, groups=2).eval()
    assert not list(fsq.parameters())
    x = torch.randn(3, 2 * width, 2000, dtype=torch.float64) * 3
    result = fsq(x, 50.0)
    for group in range(2):
        rows = x[:, group * width : (group + 1) * width].transpose(1, 2).reshape(-1, width)
        values, codes = plain(rows.numpy(), levels)
        found = result.x[:, group * width : (group + 1) * width].transpose(1, 2).reshape(-1, width)
        np.testing.assert_allclose(found.numpy(), values, atol=1e-12)
        assert (result.codes[:, group].flatten().numpy() == codes).all()
        for count, basis in zip(levels, np.cumprod([1, *levels[:-1]]), strict=True):
            assert set(codes // basis % count) == set(range(count))
    assert torch.equal(fsq.encode(x), result.codes)
    torch.testing.assert_close(fsq.decode(result.codes), result.x, rtol=0, atol=1e-12)


def test_the_package() -> None:
    """vector-quantize-pytorch has 1 + 1e-3 for 1 - 1e-3, and atanh for tan in the shift of even
    levels. The codes' values are the same for all; for odd levels so are codes of latents, but for
    those that lie between its bounds and ours."""
    package = pytest.importorskip("vector_quantize_pytorch")
    for levels in ([8, 5, 5, 5], [7, 5, 5, 5, 5]):
        theirs = package.FSQ(levels=levels)
        fsq = build(dimension=len(levels), levels=levels, groups=1)
        codes = torch.arange(fsq.cardinality)
        torch.testing.assert_close(
            fsq.decode(codes[None, None])[0].t().float(), theirs.implicit_codebook
        )
    x = torch.randn(2, 500, 5)
    values, codes = theirs(x)
    near = theirs.bound(x) - fsq(x.transpose(1, 2), 50.0).x.transpose(1, 2)
    assert (near == 0).double().mean() > 0.99
    same = (near == 0).all(-1)
    assert torch.equal(fsq.encode(x.transpose(1, 2))[:, 0][same], codes[same].long())


def test_gradient_goes_straight_through() -> None:
    """That of h tanh(z + shift) / (L // 2), through both projections."""
    fsq = build(dimension=7, levels=[5, 4], groups=2).train()
    x = torch.randn(2, 7, 9, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 7, 9, dtype=torch.float64)
    (fsq(x, 50.0).x * weight).sum().backward()
    y = x.detach().clone().requires_grad_()
    levels = torch.tensor([5.0, 4, 5, 4], dtype=torch.float64)[:, None]
    half = (levels - 1) * 0.999 / 2
    offset = torch.tensor([0, 0.5, 0, 0.5], dtype=torch.float64)[:, None]
    smooth = half * torch.tanh(fsq.in_proj(y) + torch.tan(offset / half)) / (levels // 2)
    (fsq.out_proj(smooth) * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-12, atol=1e-12)


def test_levels_are_in_use_from_the_start() -> None:
    """Of latents with variance 1, which data_init gives; projected ones, too."""
    for dimension in (24, 64):
        fsq = build(dimension=dimension, levels=[8, 6, 5], groups=8).train()
        result = fsq(torch.randn(16, dimension, 400, dtype=torch.float64), 50.0)
        assert result.metrics["perplexity"] > 0.75 * fsq.cardinality


def test_groups_in_use() -> None:
    """The first n groups; the other channels are 0."""
    fsq = build(dimension=9).eval()
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    codes = fsq.encode(x)
    for n in (1, 3):
        fsq.set_num_codebooks(n)
        assert torch.equal(fsq.encode(x), codes[:, :n])
        result = fsq(x, 50.0)
        torch.testing.assert_close(result.x, fsq.decode(codes[:, :n]), rtol=0, atol=1e-12)
        assert result.bandwidth.item() == pytest.approx(n * np.log2(120) * 50 / 1000)
    assert fsq.supported_codebook_counts == [4] and result.penalty is None


def test_in_float32_at_least() -> None:
    fsq = build(dimension=20).float().eval()
    x = torch.randn(2, 20, 50)
    wanted = fsq(x, 50.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fsq(x, 50.0)
        assert torch.equal(fsq.encode(x), wanted.codes)
        assert torch.equal(fsq.decode(wanted.codes), wanted.x)
    assert torch.equal(found.codes, wanted.codes) and torch.equal(found.x, wanted.x)
    half = fsq(x.bfloat16(), 50.0)
    assert half.x.dtype == torch.bfloat16 and torch.equal(
        half.codes, fsq.encode(x.bfloat16().float())
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_bad_numbers_give_codes_in_range(bad: float) -> None:
    fsq = build().train()
    x = torch.full((1, 12, 3), bad, dtype=torch.float64)
    result = fsq(x, 50.0)
    assert 0 <= result.codes.min() and result.codes.max() < fsq.cardinality
    fsq.update(result)
    assert fsq.counts.isfinite().all()


def test_counts_follow_the_codes() -> None:
    fsq = build().train()
    result = fsq(torch.randn(2, 12, 30, dtype=torch.float64), 50.0)
    fsq.update(result)
    seen = torch.bincount(result.codes[:, 1].flatten(), minlength=120).double()
    torch.testing.assert_close(fsq.code_counts()[1], 0.99 + 0.01 * seen)
    assert result.metrics["usage/1"].item() == pytest.approx((seen > 0).double().mean().item())
    assert fsq.eval()(torch.randn(1, 12, 4, dtype=torch.float64), 50.0).update is None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"levels": [8, 1]}, r"levels .* got \[8, 1\]"),
        ({"levels": []}, r"levels .* got \[\]"),
        ({"levels": [1 << 11, 1 << 11]}, "product is at most 1048576"),
        ({"levels": [2.5]}, r"levels .* got \[2.5\]"),
        ({"groups": 0}, "groups .* got 0"),
    ],
)
def test_wrong_arguments(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_wrong_calls() -> None:
    fsq = build().eval()
    with pytest.raises(ValueError, match=r"0\.\.119, got 0\.\.120"):
        fsq.decode(torch.tensor([[[0, 120]]]))
    with pytest.raises(ValueError, match=r"1\.\.4, got 5"):
        fsq.set_num_codebooks(5)
    with pytest.raises(ValueError, match=r"\[B, 12, T\], got \[1, 3, 5\]"):
        fsq.encode(torch.zeros(1, 3, 5))
