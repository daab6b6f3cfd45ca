"""How many codebooks a training step uses."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class CodebookDropout:
    """Draws the number of codebooks (quantizer dropout, SoundStream, arXiv 2107.03312, III-C).

    Args:
        total: number of codebooks there are.
        probability: of drawing at all; else every codebook in use is used.
        choices: numbers to draw from, equally likely; None is 1 to the number in use.
    """

    def __init__(self, total: int, probability: float, choices: Sequence[int] | None) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"q_dropout is a probability, in [0, 1], got {probability!r}")
        if choices is not None and not len(choices):
            raise ValueError(f"dropout_choices must hold integers in 1..{total}, got none")
        for n in choices or ():
            if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= total:
                raise ValueError(f"dropout_choices must be integers in 1..{total}, n_q, got {n!r}")
        self.probability = probability
        self.choices = None if choices is None else list(choices)

    def draw(self, in_use: int, generator: torch.Generator) -> int:
        """A number in 1..`in_use`, equal on all ranks if `generator` is."""
        allowed = [n for n in self.choices or range(1, in_use + 1) if n <= in_use]
        if not allowed or torch.rand((), generator=generator).item() >= self.probability:
            return in_use
        return allowed[int(torch.randint(len(allowed), (), generator=generator).item())]
