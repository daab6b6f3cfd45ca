"""One pass of rows through a sequence of codebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from adversarial_trainer.quantization.codebook import Codebook, score_table
from adversarial_trainer.quantization.statistics import BatchStatistics


class ResidualPass(NamedTuple):
    """What K codebooks make of rows `[N, D]`."""

    codes: list[torch.Tensor]  # K times [N]
    quantized: torch.Tensor  # [N, D], the sum of the K vectors chosen
    residuals: torch.Tensor  # [N, D], the sum over codebooks of what each left over
    energy: torch.Tensor  # 0-dim, the sum over codebooks of the squares of what each left over

    def penalty(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean over codebooks and elements of r^2, with its gradient with respect to the rows.

        Each residual r is the row minus a constant, so the gradient is the mean over codebooks of
        2 r, divided by the number of elements.
        """
        scale = 1 / max(len(self.codes) * self.quantized.numel(), 1)
        return self.energy * scale, self.residuals * (2 * scale)


@torch.no_grad()
def residual_pass(
    books: Sequence[Codebook], rows: torch.Tensor, stats: BatchStatistics
) -> ResidualPass:
    """Quantize `rows` `[N, D]` by each of `books` in turn, the codebooks as they are.

    Args:
        books: in residual order.
        rows: float32 or float64.
        stats: takes in what the codebooks learn from.
    """
    codes = []
    residual = rows.clone(memory_format=torch.contiguous_format)
    quantized, residuals = torch.zeros_like(residual), torch.zeros_like(residual)
    energy = rows.new_zeros(())
    scores = score_table(rows, len(books[0].embed))
    for layer, book in enumerate(books):
        codes.append(book.nearest(residual, scores))
        stats.add(layer, residual, codes[-1])
        chosen = book.lookup(codes[-1])
        residual -= chosen
        quantized += chosen
        residuals += residual
        energy += torch.dot(residual.view(-1), residual.view(-1))
    return ResidualPass(codes, quantized, residuals, energy)


@torch.no_grad()
def residual_codes(books: Sequence[Codebook], rows: torch.Tensor) -> list[torch.Tensor]:
    """The codes of `residual_pass`, without the rest."""
    codes = []
    residual = rows.clone()
    scores = score_table(rows, len(books[0].embed))
    for book in books:
        codes.append(book.nearest(residual, scores))
        residual -= book.lookup(codes[-1])
    return codes
