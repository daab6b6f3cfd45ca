"""A codebook: its nearest entries, how it learns by exponential moving averages, and what from; and
the projection to its channels."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from adversarial_trainer import distrib
from adversarial_trainer.modules.spectral import no_autocast

EPSILON = 1e-5
RESOLUTION = 1 << 20  # of the draw of a frame within a stretch of frames
COUNT_DECAY = 0.99  # of the averages of how often codes occur, where nothing else has a decay
CHUNK = 1 << 25  # distances held at once, for the codes of long files


@torch.no_grad()
def nearest(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Index `[N]` of the centroid `[C, D]` nearest to each of `rows` `[N, D]`.

    In the type of its arguments, under autocast too.
    """
    # An exported graph has no loop over the number of rows.
    parts = (rows,) if torch.compiler.is_exporting() else rows.split(CHUNK // len(centroids) or 1)
    with no_autocast(rows):
        # Smallest ||x - e||^2 is the largest 2 x.e - ||e||^2.
        bias = -centroids.square().sum(1)
        codes = [torch.addmm(bias, part, centroids.t(), alpha=2).argmax(1) for part in parts]
    return torch.cat(codes)


class Codebook(nn.Module):
    """`bins` vectors of size `dimension`; buffers are named as in the `encodec` package.

    The averages follow van den Oord et al. (arXiv 1711.00937, appendix A.1): with n_i frames
    assigned to code i, whose sum is m_i,

        N_i <- decay N_i + (1 - decay) n_i,   M_i <- decay M_i + (1 - decay) m_i,   e_i = M_i / N_i,

    where N is Laplace-smoothed as (N_i + eps) / (sum N + bins eps) * sum N (EnCodec's eps, 1e-5).

    Args:
        dimension: D, size of a code vector.
        bins: number of codes.
        decay: of the moving averages, in [0, 1).
        dead_code_threshold: a code whose average use is below this share of the codebook's mean
            use is dead and gets replaced; 0 never replaces.
        initialised: start with random vectors, else wait for `start`.
    """

    inited: torch.Tensor  # [1], 0 or 1
    cluster_size: torch.Tensor  # N, [bins]
    embed: torch.Tensor  # e, [bins, D]
    embed_avg: torch.Tensor  # M, [bins, D]

    def __init__(
        self,
        dimension: int,
        bins: int,
        decay: float,
        dead_code_threshold: float,
        initialised: bool,
    ) -> None:
        super().__init__()
        self.decay = decay
        self.dead_code_threshold = dead_code_threshold
        embed = torch.zeros(bins, dimension)
        if initialised:
            embed.normal_(std=dimension**-0.5)
        # e = M / N must hold from the start, or the first average blows the vectors up.
        self.register_buffer("inited", torch.full((1,), float(initialised)))
        self.register_buffer("cluster_size", torch.full((bins,), float(initialised)))
        self.register_buffer("embed", embed)
        self.register_buffer("embed_avg", embed.clone())

    def nearest(self, rows: torch.Tensor) -> torch.Tensor:
        """Codes `[N]` of `rows` `[N, D]`."""
        return nearest(rows, self.embed.to(rows.dtype))

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors `[..., D]` of `codes` `[...]`."""
        return F.embedding(codes, self.embed)

    @torch.no_grad()
    def start(self, centroids: torch.Tensor, cluster_size: torch.Tensor) -> None:
        """Begin at `centroids` `[bins, D]`, each with the weight of `cluster_size` `[bins]` > 0."""
        self.embed.copy_(centroids)
        self.cluster_size.copy_(cluster_size)
        self.embed_avg.copy_(centroids * cluster_size[:, None])
        self.inited.fill_(1.0)

    @torch.no_grad()
    def update(
        self, counts: torch.Tensor, sums: torch.Tensor, candidates: torch.Tensor
    ) -> torch.Tensor:
        """Move the averages by one batch, then replace dead codes.

        Args:
            counts: frames assigned to each code, over all ranks, `[bins]`.
            sums: of these frames, `[bins, D]`.
            candidates: frames to replace dead codes with, `[M, D]`.

        Returns:
            How many codes were replaced, 0-dim.
        """
        self.cluster_size.lerp_(counts, 1 - self.decay)
        self.embed_avg.lerp_(sums, 1 - self.decay)
        total = self.cluster_size.sum()
        smoothed = (self.cluster_size + EPSILON) / (total + len(counts) * EPSILON) * total
        torch.div(self.embed_avg, smoothed[:, None], out=self.embed)
        return self._replace_dead(candidates)

    def _replace_dead(self, candidates: torch.Tensor) -> torch.Tensor:
        """A replaced code starts with the codebook's mean use behind it: with decay d and threshold
        t it lives for log(t) / log(d) steps (about 300 by default) even if no frame picks it."""
        mean = self.cluster_size.mean()
        # The least used codes; a stable sort, so that ranks agree on the order of equals.
        slots = self.cluster_size.argsort(stable=True)[: len(candidates)]
        dead = self.cluster_size[slots] < self.dead_code_threshold * mean
        # By `where`, since a mask as index would wait for a GPU to count.
        for buffer, fresh in (
            (self.embed, candidates),
            (self.embed_avg, candidates * mean),
            (self.cluster_size, mean),
        ):
            chosen = dead[:, None] if buffer.dim() == 2 else dead
            buffer[slots] = torch.where(chosen, fresh, buffer[slots])
        return dead.sum()


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


@torch.no_grad()
def count_codes(codes: torch.Tensor, bins: int) -> torch.Tensor:
    """How often each code occurs in `codes` `[B, K, T]` of all ranks: float32 `[K, bins]`."""
    flat = codes.transpose(0, 1).flatten(1)  # [K, B * T]
    counts = torch.zeros(flat.shape[0], bins, device=codes.device)
    return distrib.all_reduce(
        counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=counts.dtype))
    )


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


class Projection(nn.Conv1d):
    """Convolution with a kernel of 1, which takes latents of no frames, too: torch's refuses them.

    Shape: `[B, in_channels, T]` -> `[B, out_channels, T]`, T >= 0.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.linear(input.transpose(1, 2), self.weight[:, :, 0], self.bias).transpose(1, 2)
