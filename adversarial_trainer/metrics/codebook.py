"""Codebook use over a set of audio."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adversarial_trainer import distrib


class CodebookUsage:
    """Usage, perplexity and entropy of each codebook over a set of codes.

    Call `update(codes)` for each batch, then `compute()` or `per_codebook()` on every rank, as
    counts are summed over ranks. Codes of fewer codebooks (a lower bandwidth) count for the first
    ones only.

    Args:
        num_codebooks: K.
        bins: number of entries of each codebook.
        device: of the counts until the first codes come; with NCCL a rank without codes needs its
            GPU here.
    """

    def __init__(self, num_codebooks: int, bins: int, device: torch.device | str = "cpu") -> None:
        self.num_codebooks = num_codebooks
        self.bins = bins
        self.counts = torch.zeros(num_codebooks, bins, dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, codes: Tensor) -> None:
        """Count `codes`, integers in [0, bins) of shape [B, K', T] with K' <= K."""
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.bins:
            raise ValueError(
                f"Codes must be in [0, {self.bins}), got {int(codes.min())} to {int(codes.max())}."
            )
        used = codes.shape[1]
        self.counts = self.counts.to(codes.device)
        offsets = torch.arange(used, device=codes.device)[:, None] * self.bins
        flat = (codes.long() + offsets).flatten()
        self.counts[:used] += torch.bincount(flat, minlength=used * self.bins).view(used, -1)

    def per_codebook(self) -> dict[str, Tensor]:
        """Return float64 [K] tensors: `usage` (share of entries seen, in [0, 1]), `perplexity`
        (2^entropy, in [1, bins]) and `entropy` (bits). NaN for a codebook without codes."""
        counts = distrib.all_reduce(self.counts.clone()).double()
        share = counts / counts.sum(1, keepdim=True)
        entropy = torch.special.entr(share).sum(1) / math.log(2)
        usage = (share > 0).double().mean(1).where(entropy.isfinite(), math.nan)
        return {"usage": usage, "perplexity": entropy.exp2(), "entropy": entropy}

    def compute(self, num_codebooks: int | None = None) -> dict[str, float]:
        """Return means over the first `num_codebooks` (None: all) that had codes, and
        `bitrate_efficiency`: entropy over the log2(bins) bits that each code costs, in [0, 1] (as
        DAC's `compute_entropy.py`)."""
        columns = self.per_codebook()
        means = {name: float(values[:num_codebooks].nanmean()) for name, values in columns.items()}
        means["bitrate_efficiency"] = means["entropy"] / math.log2(self.bins)
        return means
