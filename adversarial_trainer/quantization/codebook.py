"""One codebook that learns by exponential moving averages.

The averages follow van den Oord et al. (arXiv 1711.00937, appendix A.1): with n_i frames assigned
to code i, whose sum is m_i,

    N_i <- decay N_i + (1 - decay) n_i,   M_i <- decay M_i + (1 - decay) m_i,   e_i = M_i / N_i,

where N is Laplace-smoothed as (N_i + eps) / (sum N + bins eps) * sum N (EnCodec's eps is 1e-5).
n and m are summed over ranks first (`statistics.py`), so that N ranks compute what one would.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-5
CPU_CHUNK = 512  # rows whose distances are held at once
CHUNK = 1 << 15


def nearest(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Index `[N]` of the centroid `[C, D]` nearest to each of `rows` `[N, D]`.

    Never holds more than a chunk of the distances; in the type of its arguments under autocast too.
    """
    # Largest 2 x.e - ||e||^2; on the CPU `max` takes a third of the time of `argmax`, and a chunk
    # whose scores stay in the cache half the time of the whole.
    chunks = rows.split(CPU_CHUNK if rows.device.type == "cpu" else CHUNK)
    with torch.autocast(rows.device.type, enabled=False):
        bias = -torch.linalg.vector_norm(centroids, dim=1).square()
        codes = [torch.addmm(bias, part, centroids.t(), alpha=2).max(1).indices for part in chunks]
    return codes[0] if len(codes) == 1 else torch.cat(codes)


class Codebook(nn.Module):
    """`bins` vectors of size `dimension`; buffers named as in the `encodec` package.

    Args:
        dimension: size of a code vector.
        bins: number of codes.
        decay: of the moving averages, in [0, 1).
        dead_code_threshold: a code whose average use is below this share of the codebook's mean
            use is dead and gets replaced; 0 never replaces.
        initialised: start with random vectors, else wait for `start`.
    """

    inited: torch.Tensor  # [1], 0 or 1
    cluster_size: torch.Tensor  # [bins], N above
    embed: torch.Tensor  # [bins, D], e above
    embed_avg: torch.Tensor  # [bins, D], M above

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

    def start(self, centroids: torch.Tensor, cluster_size: torch.Tensor) -> None:
        """Begin at `centroids` `[bins, D]`, each with the weight of `cluster_size` `[bins]` > 0."""
        self.embed.copy_(centroids)
        self.cluster_size.copy_(cluster_size)
        self.embed_avg.copy_(centroids * cluster_size[:, None])
        self.inited.fill_(1.0)

    @torch.no_grad()
    def update(
        self,
        counts: torch.Tensor,
        sums: torch.Tensor,
        candidates: torch.Tensor,
        valid: torch.Tensor,
    ) -> torch.Tensor:
        """One step of the averages, then dead codes become candidates.

        A replaced code starts with the codebook's mean use behind it: with decay d and threshold t
        it lives for log(t) / log(d) steps (about 300 by default) even if no frame picks it.

        Args:
            counts: frames per code `[bins]`, over all ranks; overwritten.
            sums: their sums `[bins, D]`; overwritten.
            candidates: frames `[M, D]` that may replace dead codes, at most M a step.
            valid: 0-dim bool; where false, nothing changes, bit for bit.

        Returns:
            How many codes were replaced, 0-dim.
        """
        invalid = ~valid
        share = valid.to(self.embed.dtype)
        weight = share * (1 - self.decay)
        self.cluster_size.lerp_(counts.masked_fill_(invalid, 0), weight)
        self.embed_avg.lerp_(sums.masked_fill_(invalid, 0), weight)
        total = self.cluster_size.sum()
        bins = len(self.cluster_size)
        smoothed = (self.cluster_size + EPSILON) / (total + bins * EPSILON) * total
        self.embed.lerp_(self.embed_avg / smoothed[:, None], share)
        if self.dead_code_threshold == 0 or not len(candidates):
            return torch.zeros_like(total)

        mean = total / bins
        # The least used codes; a stable sort, so that ranks agree on the order of equals.
        size, slots = self.cluster_size.sort(stable=True)
        size, slots = size[: len(candidates)], slots[: len(candidates)]
        dead = valid & (size < self.dead_code_threshold * mean)
        self.cluster_size.index_copy_(0, slots, torch.where(dead, mean, size))
        for table, fresh in ((self.embed, candidates), (self.embed_avg, candidates * mean)):
            kept = table.index_select(0, slots)
            table.index_copy_(0, slots, torch.where(dead[:, None], fresh, kept))
        return dead.sum().to(total.dtype)
