"""K-means, from which codebooks start."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adversarial_trainer.quantization.codebook import Codebook, nearest


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
        codes = nearest(frames, means)
        sizes = frames.new_zeros(clusters).index_add_(0, codes, frames.new_ones(count))
        sums = torch.zeros_like(means).index_add_(0, codes, frames)
        means = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], means)
    return means, sizes


@torch.no_grad()
def start_codebooks(
    books: Sequence[Codebook],
    frames: torch.Tensor,
    batch_frames: float,
    iterations: int,
    generator: torch.Generator,
) -> None:
    """Start by k-means those `books` that have no values yet, each on what the ones before leave.

    Args:
        books: in residual order.
        frames: `[N, D]`.
        batch_frames: frames per batch over all ranks. The average use of a code settles at this /
            bins, so it starts at that scale.
        iterations: passes of k-means.
        generator: CPU generator for the centroids to start from.
    """
    scale = batch_frames / len(frames)
    for book in books:
        if not book.inited:
            centroids, sizes = kmeans(frames, len(book.embed), iterations, generator)
            # A centroid without frames counts as one: N = 0 would make its e 0 / 0.
            book.start(centroids, sizes.clamp(min=1) * scale)
        frames = frames - book.lookup(book.nearest(frames))
