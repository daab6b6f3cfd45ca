"""One codebook, and the nearest of its entries; `averages.py` has how codebooks learn."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

CPU_CHUNK = 512  # rows whose distances are held at once
CHUNK = 1 << 15


def score_table(rows: torch.Tensor, bins: int) -> torch.Tensor:
    """Room for `nearest` to work in, for `rows` `[N, D]` and any number of codebooks of `bins`.

    On a CPU a new table for each codebook costs as much as the product that fills it (its pages
    are mapped afresh): 40 ms against 18 for 32 codebooks and 300 rows.
    """
    chunk = CPU_CHUNK if rows.device.type == "cpu" else CHUNK
    return rows.new_empty(min(len(rows), chunk), bins)


def negative_squares(centroids: torch.Tensor) -> torch.Tensor:
    """-||e||^2 `[C]` of centroids `[C, D]`."""
    return -torch.linalg.vector_norm(centroids, dim=1).square()


@torch.no_grad()
def nearest(
    rows: torch.Tensor,
    centroids: torch.Tensor,
    scores: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Index `[N]` of the centroid `[C, D]` nearest to each of `rows` `[N, D]`.

    Never holds more than a chunk of the distances; in the type of its arguments under autocast too.

    Args:
        scores: a `score_table`, overwritten; None makes one.
        bias: `negative_squares` of the centroids, if known.
    """
    if not len(rows):
        return torch.zeros(0, dtype=torch.long, device=rows.device)
    if scores is None:
        scores = score_table(rows, len(centroids))
    # Largest 2 x.e - ||e||^2; on the CPU `max` takes a third of the time of `argmax`, and a chunk
    # whose scores stay in the cache half the time of the whole.
    with torch.autocast(rows.device.type, enabled=False):
        bias = negative_squares(centroids) if bias is None else bias
        table = centroids.t()
        codes = [
            torch.addmm(bias, part, table, alpha=2, out=scores[: len(part)]).max(1).indices
            for part in rows.split(len(scores))
        ]
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
    cluster_size: torch.Tensor  # [bins], N of `averages.py`
    embed: torch.Tensor  # [bins, D], e of `averages.py`
    embed_avg: torch.Tensor  # [bins, D], M of `averages.py`

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
        self._bias: torch.Tensor | None = None
        self.dead_code_threshold = dead_code_threshold
        embed = torch.zeros(bins, dimension)
        if initialised:
            embed.normal_(std=dimension**-0.5)
        # e = M / N must hold from the start, or the first average blows the vectors up.
        self.register_buffer("inited", torch.full((1,), float(initialised)))
        self.register_buffer("cluster_size", torch.full((bins,), float(initialised)))
        self.register_buffer("embed", embed)
        self.register_buffer("embed_avg", embed.clone())

    def nearest(self, rows: torch.Tensor, scores: torch.Tensor | None = None) -> torch.Tensor:
        """Codes `[N]` of `rows` `[N, D]`; `scores` as for the function `nearest`."""
        known = self._bias is not None and self._bias.dtype == rows.dtype
        return nearest(rows, self.embed.to(rows.dtype), scores, self._bias if known else None)

    def freeze(self) -> None:
        """Keep what `nearest` needs of `embed`, which must not change until the next `train()`,
        load or move to another type or device. For few rows that is most of its work."""
        dtype = torch.promote_types(self.embed.dtype, torch.float32)
        self._bias = negative_squares(self.embed.to(dtype))

    def train(self, mode: bool = True) -> Codebook:
        if mode:
            self._bias = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Codebook:
        self._bias = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._bias = None
        super()._load_from_state_dict(*args)

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors `[..., D]` of `codes` `[...]`."""
        return F.embedding(codes, self.embed)

    def start(self, centroids: torch.Tensor, cluster_size: torch.Tensor) -> None:
        """Begin at `centroids` `[bins, D]`, each with the weight of `cluster_size` `[bins]` > 0."""
        self._bias = None
        self.embed.copy_(centroids)
        self.cluster_size.copy_(cluster_size)
        self.embed_avg.copy_(centroids * cluster_size[:, None])
        self.inited.fill_(1.0)
