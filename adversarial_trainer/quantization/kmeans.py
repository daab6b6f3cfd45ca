"""K-means over frames gathered from batches and ranks, to start codebooks from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from adversarial_trainer import distrib
from adversarial_trainer.quantization.codebook import Codebook, nearest


class FrameCollector:
    """Frames of all ranks, gathered over batches until there are enough for k-means.

    Holds the same frames on every rank.

    Args:
        wanted: number of frames; also the most that are kept.
        max_batches: after so many batches with at least one frame, what is there has to do.
    """

    def __init__(self, wanted: int, max_batches: int) -> None:
        self.wanted = wanted
        self.max_batches = max_batches
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.frames: torch.Tensor | None = None
        self.batches = 0
        self.last_batch = 0

    def add(self, rows: torch.Tensor, generator: torch.Generator) -> None:
        """Add the finite ones of this rank's `rows` `[N_r, D]`, and the other ranks'."""
        rows = distrib.gather_rows(rows[rows.isfinite().all(1)].detach())
        if not len(rows):
            return
        self.batches += 1
        self.last_batch = len(rows)
        if self.frames is not None:
            rows = torch.cat([self.frames.to(rows), rows])
        if len(rows) > self.wanted:
            keep = torch.randperm(len(rows), generator=generator)[: self.wanted].sort().values
            rows = rows[keep.to(rows.device)]
        self.frames = rows.clone()

    @property
    def progress(self) -> float:
        """Share of the wanted frames, in [0, 1]."""
        return 0.0 if self.frames is None else len(self.frames) / self.wanted

    @property
    def ready(self) -> bool:
        """Whether to start k-means now."""
        return self.progress >= 1 or self.batches >= self.max_batches

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Tensors only; nothing once k-means has run."""
        if self.frames is None:
            return {}
        return {"frames": self.frames, "batches": torch.tensor([self.batches, self.last_batch])}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from `state`; an empty one starts afresh."""
        self.clear()
        if state:
            self.frames = state["frames"].clone()
            self.batches, self.last_batch = (int(n) for n in state["batches"].tolist())


@torch.no_grad()
def kmeans(
    frames: torch.Tensor, clusters: int, iterations: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lloyd's algorithm from randomly drawn frames.

    With fewer frames than clusters the start is drawn with replacement and a little noise, a
    hundredth of each dimension's standard deviation. A centroid that no frame picks stays.

    Args:
        frames: `[N, D]`, N >= 1.
        clusters: C, number of centroids.
        iterations: passes, at least 1.
        generator: CPU generator for the start.

    Returns:
        Centroids `[C, D]` and the number of frames of each in the last pass `[C]`.
    """
    count, dimension = frames.shape
    if count >= clusters:
        start = torch.randperm(count, generator=generator)[:clusters]
        means = frames[start.to(frames.device)]
    else:
        start = torch.randint(count, (clusters,), generator=generator)
        noise = torch.randn(clusters, dimension, generator=generator).to(frames)
        spread = frames.std(0, correction=0) * 0.01
        means = frames[start.to(frames.device)] + noise * spread
    sizes = frames.new_zeros(clusters)
    for _ in range(iterations):
        sizes = frames.new_zeros(clusters)
        codes = nearest(frames, means)
        sizes.index_add_(0, codes, sizes.new_ones(count))
        sums = torch.zeros_like(means).index_add_(0, codes, frames)
        means = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], means)
    return means, sizes


@torch.no_grad()
def start_codebooks(
    books: Sequence[Codebook],
    frames: torch.Tensor,
    batch_frames: int,
    iterations: int,
    generator: torch.Generator,
) -> None:
    """Start by k-means those `books` that have no values yet, each on what the ones before leave.

    Args:
        books: in residual order.
        frames: `[N, D]`, equal on all ranks.
        batch_frames: frames per batch over all ranks. The average use of a code settles at this /
            bins, so it starts at that scale.
        iterations: passes of k-means.
        generator: CPU generator that draws alike on all ranks.
    """
    scale = batch_frames / len(frames)
    for book in books:
        frames = frames.to(book.embed)
        if not bool(book.inited):
            centroids, sizes = kmeans(frames, len(book.embed), iterations, generator)
            # A centroid without frames counts as one: N = 0 would make its e 0 / 0.
            book.start(centroids, sizes.clamp(min=1) * scale)
        frames = frames - book.lookup(book.nearest(frames))
    # Each rank computed the same, but sums on a GPU may differ in their last bits.
    distrib.broadcast([buffer for book in books for buffer in book.buffers()])
