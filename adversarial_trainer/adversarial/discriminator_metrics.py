"""Metrics of discriminators: how well they tell real from fake audio."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def discriminator_metrics(
    names: Sequence[str], logits: Sequence[tuple[Tensor, Tensor]], threshold: float
) -> dict[str, Tensor]:
    """Mean logits and accuracy, per sub-discriminator and averaged over them.

    Args:
        names: One per sub-discriminator.
        logits: On fake and on real audio, one pair per sub-discriminator, any shapes.
        threshold: A logit above it says "real" (see `criteria.decision_threshold`).

    Returns:
        0-dim tensors, left on their device: `d_real/<name>`, `d_fake/<name>` (mean logits),
        `d_acc/<name>` (mean of the accuracies on real and on fake, in [0, 1]; 0.5 is guessing)
        and their means `d_real`, `d_fake`, `d_acc`. A sub-discriminator with no logits is left
        out.
    """
    rows: dict[str, dict[str, Tensor]] = {"d_real": {}, "d_fake": {}, "d_acc": {}}
    for name, (fake, real) in zip(names, logits, strict=True):
        if fake.numel() and real.numel():
            on_real = (real > threshold).to(real.dtype).mean()
            on_fake = (fake < threshold).to(fake.dtype).mean()
            rows["d_real"][name] = real.mean()
            rows["d_fake"][name] = fake.mean()
            rows["d_acc"][name] = (on_real + on_fake) / 2
    metrics = {f"{key}/{name}": x for key, row in rows.items() for name, x in row.items()}
    means = {key: torch.stack(list(row.values())).mean() for key, row in rows.items() if row}
    return metrics | means
