"""Who is winning: what the discriminators say about real and fake audio."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def discriminator_metrics(
    names: Sequence[str], real: Sequence[Tensor], fake: Sequence[Tensor], threshold: float
) -> dict[str, Tensor]:
    """Mean logits and accuracy, per sub-discriminator and averaged over them.

    Args:
        names: One per sub-discriminator.
        real, fake: Logits per sub-discriminator, any shapes.
        threshold: A logit above it says "real" (see `criteria.decision_threshold`).

    Returns:
        0-dim tensors, left on their device: `d_real/<name>`, `d_fake/<name>` (mean logits),
        `d_acc/<name>` (mean of the accuracies on real and on fake, in [0, 1]; 0.5 is guessing)
        and their means `d_real`, `d_fake`, `d_acc`. A sub-discriminator with no logits is left
        out.
    """
    metrics: dict[str, Tensor] = {}
    columns: dict[str, list[Tensor]] = {"d_real": [], "d_fake": [], "d_acc": []}
    for name, on_real, on_fake in zip(names, real, fake, strict=True):
        if not on_real.numel() or not on_fake.numel():
            continue
        on_real, on_fake = on_real.detach(), on_fake.detach()
        # At least float32: a mean in half precision has three digits.
        kind = torch.promote_types(on_real.dtype, torch.float32)
        hits = (on_real > threshold).to(kind).mean() + (on_fake < threshold).to(kind).mean()
        row = {"d_real": on_real.mean(), "d_fake": on_fake.mean(), "d_acc": hits / 2}
        for key, value in row.items():
            metrics[f"{key}/{name}"] = value
            columns[key].append(value)
    for key, values in columns.items():
        if values:
            metrics[key] = torch.stack(values).mean()
    return metrics
