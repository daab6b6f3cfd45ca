"""What codebooks learn from one batch, over all ranks."""

from __future__ import annotations

from typing import NamedTuple

import torch

from adversarial_trainer import distrib

RESOLUTION = 1 << 20  # of the draw within a stretch of frames


class BatchStatistics(NamedTuple):
    """Sums over the frames of a batch for K codebooks; see `Codebook.update`."""

    counts: torch.Tensor  # frames assigned to each code, [K, bins]
    sums: torch.Tensor  # sum of these frames, [K, bins, D]
    candidates: torch.Tensor  # frames to replace dead codes with, [K, M, D]
    energy: torch.Tensor  # squares of what each codebook left over, 0-dim


def gather_statistics(
    inputs: torch.Tensor,
    codes: torch.Tensor,
    energy: torch.Tensor,
    bins: int,
    num_candidates: int,
    generator: torch.Generator,
) -> BatchStatistics:
    """Statistics over the frames of all ranks, summed in one message.

    Args:
        inputs: of each codebook on this rank, `[K, N, D]`.
        codes: of these, `[K, N]`.
        energy: squares of what each codebook left over, 0-dim.
        bins: codes per codebook.
        num_candidates: M, frames to choose for each codebook.
        generator: CPU generator that draws alike on all ranks.
    """
    layers, _, dimension = inputs.shape
    counts = inputs.new_zeros(layers, bins)
    counts.scatter_add_(1, codes, torch.ones_like(codes, dtype=inputs.dtype))
    offsets = torch.arange(layers, device=codes.device)[:, None] * bins
    sums = inputs.new_zeros(layers * bins, dimension)
    sums.index_add_(0, (codes + offsets).flatten(), inputs.flatten(0, 1))
    candidates = _draw_candidates(inputs, num_candidates, generator)
    stats = BatchStatistics(counts, sums.view(layers, bins, dimension), candidates, energy)
    if not distrib.is_distributed():
        return stats
    flat = distrib.all_reduce(torch.cat([part.flatten() for part in stats]))
    parts = flat.split([part.numel() for part in stats])
    return BatchStatistics(*(p.view_as(old) for p, old in zip(parts, stats, strict=True)))


def codebook_use(counts: torch.Tensor) -> dict[str, torch.Tensor]:
    """Metrics `usage` and `perplexity` of `counts` `[K, bins]`; see `ResidualVectorQuantizer`."""
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    values = {
        "usage": (counts > 0).to(shares.dtype).mean(1),
        "perplexity": torch.exp(-torch.xlogy(shares, shares).sum(1)),
    }
    metrics = {}
    for name, value in values.items():
        metrics[name] = value.mean()
        metrics.update({f"{name}/{k}": v for k, v in enumerate(value.unbind())})
    return metrics


def _draw_candidates(inputs: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` frames of `inputs` `[K, N, D]` of all ranks, those of other ranks as zeros.

    One at random from each of `count` equal stretches of all ranks' frames, in random order, so
    that they are different frames if there are enough. Does not wait for a GPU.
    """
    layers, frames, dimension = inputs.shape
    if not count:
        return inputs.new_zeros(layers, 0, dimension)
    jitter = torch.randint(RESOLUTION, (count,), generator=generator)
    order = torch.randperm(count, generator=generator)
    position = (torch.arange(count) * RESOLUTION + jitter)[order].to(inputs.device)
    per_rank = torch.zeros(distrib.world_size(), dtype=torch.long, device=inputs.device)
    per_rank[distrib.rank()] = frames
    distrib.all_reduce(per_rank)
    index = position * per_rank.sum() // (count * RESOLUTION)  # in all ranks' frames
    index -= per_rank[: distrib.rank()].sum()
    if not frames:
        return inputs.new_zeros(layers, count, dimension)
    mine = (index >= 0) & (index < frames)
    chosen = inputs[:, index.clamp(0, frames - 1)]  # [K, count, D]
    return torch.where(mine[:, None], chosen, 0.0)
