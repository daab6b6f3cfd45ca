"""What one batch tells the codebooks, over all ranks."""

from __future__ import annotations

import torch

from adversarial_trainer import distrib


class BatchStatistics:
    """What one batch tells the first `layers` codebooks, in one flat message for all ranks.

    Per codebook: frames per code, their sums, and the frames offered to dead codes, which are
    spread evenly over the frames of all ranks (taken in rank order) by the shared generator.

    Args:
        layers: number of codebooks used.
        bins: codes per codebook.
        rows: frames of this rank `[N, D]`, for their number, size, dtype and device.
        offers: M, frames offered per codebook; 0 for none.
        generator: CPU generator that draws alike on all ranks.

    Attributes:
        sums: `[layers, bins, D]`.
        counts: `[layers, bins]`.
        candidates: `[layers, M, D]`.
        valid: whether all ranks' numbers are finite and there are any, 0-dim bool; after `reduce`.
    """

    def __init__(
        self,
        layers: int,
        bins: int,
        rows: torch.Tensor,
        offers: int,
        generator: torch.Generator,
    ) -> None:
        frames, dimension = rows.shape
        shapes = [(layers, bins, dimension), (layers, bins), (layers, offers, dimension), (1,)]
        sizes = [torch.Size(shape).numel() for shape in shapes]
        self._flat = rows.new_zeros(sum(sizes))
        self.sums, self.counts, self.candidates, self._energy = (
            part.view(shape) for part, shape in zip(self._flat.split(sizes), shapes, strict=True)
        )
        self._ones = rows.new_ones(frames)
        self._picks = _stratified_picks(offers, frames, generator, rows.device) if offers else None
        self.valid = torch.zeros((), dtype=torch.bool, device=rows.device)

    def add(self, layer: int, rows: torch.Tensor, codes: torch.Tensor) -> None:
        """Record that codebook `layer` gave `codes` `[N]` to `rows` `[N, D]`."""
        if not len(rows):
            return
        self.counts[layer].index_add_(0, codes, self._ones)
        self.sums[layer].index_add_(0, codes, rows)
        if self._picks is not None:
            picks, mine = self._picks
            offered = torch.index_select(rows, 0, picks, out=self.candidates[layer])
            if mine is not None:
                offered.masked_fill_(~mine, 0.0)

    def reduce(self, energy: torch.Tensor) -> None:
        """Sum over ranks: one collective for all codebooks.

        Args:
            energy: squared quantization error of this rank, 0-dim. It is finite only where all
                frames are, and small enough to be squared: so the sums need no look of their own.
        """
        self._energy += energy
        distrib.all_reduce(self._flat)
        self.valid = torch.isfinite(self._energy[0]) & (self.counts[0].sum() > 0)

    def metrics(self) -> dict[str, torch.Tensor]:
        """Usage and perplexity of each codebook, and their means; see `ResidualVectorQuantizer`."""
        shares = self.counts / self.counts.sum(1, keepdim=True).clamp(min=1)
        values = {
            "usage": (self.counts > 0).to(shares.dtype).mean(1),
            "perplexity": torch.exp(-torch.xlogy(shares, shares).sum(1)),
        }
        metrics = {}
        for name, value in values.items():
            metrics[name] = value.mean()
            metrics.update({f"{name}/{k}": v for k, v in enumerate(value.unbind())})
        return metrics


def _stratified_picks(
    count: int, frames: int, generator: torch.Generator, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One random frame from each of `count` equal stretches of all ranks' frames, shuffled.

    Returns this rank's row for each pick `[count]`, and whether the pick is this rank's
    `[count, 1]`, None where all are. In integers, and without waiting for the device.
    """
    resolution = 1 << 20
    jitter = torch.randint(resolution, (count,), generator=generator)
    order = torch.randperm(count, generator=generator)
    position = (torch.arange(count) * resolution + jitter)[order].to(device)
    if not distrib.is_distributed():
        return (position * frames).div(count * resolution, rounding_mode="floor"), None
    per_rank = torch.zeros(distrib.world_size(), dtype=torch.long, device=device)
    per_rank[distrib.rank()] = frames
    distrib.all_reduce(per_rank)
    total, offset = per_rank.sum(), per_rank[: distrib.rank()].sum()
    local = (position * total).div(count * resolution, rounding_mode="floor") - offset
    mine = (local >= 0) & (local < frames)
    return local.clamp(0, max(frames - 1, 0)), mine[:, None]
