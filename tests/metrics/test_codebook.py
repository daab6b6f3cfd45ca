"""Codebook use against scipy's entropy and cases that can be worked out."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from adversarial_trainer import distrib
from adversarial_trainer.metrics import CodebookUsage


def test_entropy_is_scipys_over_several_batches() -> None:
    gen = torch.Generator().manual_seed(0)
    batches = [torch.randint(0, 16, (2, 3, 50), generator=gen) ** 2 // 16 for _ in range(3)]
    usage = CodebookUsage(3, 16)
    for codes in batches:
        usage.update(codes)
    every = torch.cat(batches).transpose(0, 1).flatten(1)  # [K, B * T]
    result = usage.per_codebook()
    for k in range(3):
        counts = torch.bincount(every[k], minlength=16).numpy()
        assert result["entropy"][k].item() == pytest.approx(stats.entropy(counts, base=2))
        assert result["usage"][k].item() == (counts > 0).mean()
        assert result["perplexity"][k].item() == pytest.approx(math.exp(stats.entropy(counts)))
    means = usage.compute()
    assert means["bitrate_efficiency"] == pytest.approx(result["entropy"].mean().item() / 4)


def test_even_use_collapse_and_codebooks_without_codes() -> None:
    usage = CodebookUsage(3, 8)
    usage.update(torch.stack([torch.arange(8).repeat(4), torch.full((32,), 5)])[None])
    result = usage.per_codebook()
    assert result["usage"][:2].tolist() == [1.0, 1 / 8]
    assert result["perplexity"][:2].tolist() == pytest.approx([8.0, 1.0])
    assert all(values[2].isnan() for values in result.values())
    assert usage.compute()["bitrate_efficiency"] == pytest.approx(0.5)
    assert usage.compute(1)["bitrate_efficiency"] == pytest.approx(1)
    for wrong in (8, -1):
        with pytest.raises(ValueError, match=rf"\[0, 8\).*{wrong} to {wrong}"):
            usage.update(torch.full((1, 1, 3), wrong))


def test_counts_are_summed_over_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rank that saw the other half of the entries; the local counts stay local."""
    usage = CodebookUsage(1, 4)
    usage.update(torch.tensor([[[0, 1]]]))
    other = torch.tensor([[0, 0, 1, 1]])
    monkeypatch.setattr(distrib, "all_reduce", lambda counts: counts.add_(other))
    assert usage.compute()["entropy"] == pytest.approx(2.0)
    assert usage.counts.tolist() == [[1, 1, 0, 0]]
