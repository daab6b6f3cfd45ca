"""How codebooks learn: exponential moving averages, and frames in place of dead codes.

The averages follow van den Oord et al. (arXiv 1711.00937, appendix A.1): with n_i frames assigned
to code i, whose sum is m_i,

    N_i <- decay N_i + (1 - decay) n_i,   M_i <- decay M_i + (1 - decay) m_i,   e_i = M_i / N_i,

where N is Laplace-smoothed as (N_i + eps) / (sum N + bins eps) * sum N (EnCodec's eps is 1e-5).
n and m are summed over ranks first (`statistics.py`), so that N ranks compute what one would.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adversarial_trainer.quantization.codebook import Codebook
from adversarial_trainer.quantization.statistics import BatchStatistics

EPSILON = 1e-5


@torch.no_grad()
def update_codebooks(
    books: Sequence[Codebook], stats: BatchStatistics, look: bool | None = None
) -> torch.Tensor:
    """One step of the averages of `books`, then their dead codes become candidates.

    A replaced code starts with the codebook's mean use behind it: with decay d and threshold t
    it lives for log(t) / log(d) steps (about 300 by default) even if no frame picks it.

    Args:
        books: of equal sizes, decay and threshold, one for each codebook in `stats`.
        stats: of all ranks; its `counts` and `sums` are overwritten. Where it is not valid,
            nothing changes, bit for bit.
        look: go through the codebooks one by one (so that their tables stay in a CPU's cache) and
            leave out what has nothing to do; else all at once, in few kernels, without waiting
            for the device to say. None is the former on a CPU.

    Returns:
        How many codes were replaced in each codebook, `[len(books)]`.
    """
    if look is None:
        look = stats.sums.device.type == "cpu"
    if look:
        if not stats.valid:
            return stats.sums.new_zeros(len(books))
        return torch.cat([_update([b], stats, slice(k, k + 1), True) for k, b in enumerate(books)])
    return _update(books, stats, slice(0, len(books)), False)


def _update(
    books: Sequence[Codebook], stats: BatchStatistics, part: slice, look: bool
) -> torch.Tensor:
    """`update_codebooks` of the codebooks `part`; with `look` the statistics must be valid."""
    tables = [
        [book.cluster_size for book in books],
        [book.embed for book in books],
        [book.embed_avg for book in books],
    ]
    # Of one codebook a view; of several copies, which are written back.
    single = len(books) == 1
    sizes, embed, embed_avg = stacked = [
        same[0][None] if single else torch.stack(same) for same in tables
    ]
    valid = None if look else stats.valid
    _average(books[0].decay, sizes, embed, embed_avg, stats.counts[part], stats.sums[part], valid)
    candidates = stats.candidates[part]
    replaced = _replace(books[0].dead_code_threshold, sizes, embed, embed_avg, candidates, valid)
    if not single:
        for same, new in zip(tables, stacked, strict=True):
            torch._foreach_copy_(same, list(new.unbind()))
    return replaced


def _average(
    decay: float,
    sizes: torch.Tensor,
    embed: torch.Tensor,
    embed_avg: torch.Tensor,
    counts: torch.Tensor,
    sums: torch.Tensor,
    valid: torch.Tensor | None,
) -> None:
    """N, e and M `[K, bins(, D)]`, in place; where `valid` (None: true) is false, no change."""
    weight: float | torch.Tensor = 1 - decay
    if valid is not None:
        weight = weight * valid.to(sizes.dtype)
        counts.masked_fill_(~valid, 0)
        sums.masked_fill_(~valid, 0)
    sizes.lerp_(counts, weight)
    embed_avg.lerp_(sums, weight)
    total = sizes.sum(1, keepdim=True)  # [K, 1]
    smoothed = ((sizes + EPSILON) / (total + sizes.shape[1] * EPSILON) * total)[..., None]
    if valid is None:
        torch.div(embed_avg, smoothed, out=embed)
    else:
        embed.copy_(torch.where(valid, embed_avg / smoothed, embed))


def _replace(
    threshold: float,
    sizes: torch.Tensor,
    embed: torch.Tensor,
    embed_avg: torch.Tensor,
    candidates: torch.Tensor,
    valid: torch.Tensor | None,
) -> torch.Tensor:
    """Put `candidates` `[K, M, D]` for dead codes, in place; returns how many `[K]`."""
    if threshold == 0 or not candidates.shape[1]:
        return sizes.new_zeros(len(sizes))
    mean = sizes.mean(1, keepdim=True)  # [K, 1]
    if valid is None and not (sizes < threshold * mean).any():
        return sizes.new_zeros(len(sizes))
    # The least used codes; a stable sort, so that ranks agree on the order of equals.
    size, slots = sizes.sort(dim=1, stable=True)
    size, slots = size[:, : candidates.shape[1]], slots[:, : candidates.shape[1]]  # [K, M]
    dead = size < threshold * mean
    if valid is not None:
        dead &= valid
    sizes.scatter_(1, slots, torch.where(dead, mean, size))
    index = slots[..., None].expand_as(candidates)
    for table, fresh in ((embed, candidates), (embed_avg, candidates * mean[..., None])):
        table.scatter_(1, index, torch.where(dead[..., None], fresh, table.gather(1, index)))
    return dead.sum(1).to(sizes.dtype)
