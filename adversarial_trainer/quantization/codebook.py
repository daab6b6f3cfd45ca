"""One codebook: its nearest entries, and how it learns by exponential moving averages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-5
CHUNK = 1 << 15  # rows whose distances are held at once, for the codes of long files


@torch.no_grad()
def nearest(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Index `[N]` of the centroid `[C, D]` nearest to each of `rows` `[N, D]`.

    In the type of its arguments, under autocast too.
    """
    with torch.autocast(rows.device.type, enabled=False):
        # Smallest ||x - e||^2 is the largest 2 x.e - ||e||^2.
        bias = -centroids.square().sum(1)
        codes = [
            torch.addmm(bias, part, centroids.t(), alpha=2).argmax(1) for part in rows.split(CHUNK)
        ]
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
