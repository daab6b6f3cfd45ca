"""A check that losses and metrics share: they compare two batches of audio of one shape."""

from __future__ import annotations

from torch import Tensor


def check_pair(fake: Tensor, real: Tensor) -> None:
    """Raise ValueError unless `fake` and `real` are both `[B, C, T]` with T >= 1.

    Broadcasting `[B, T]` against `[B, 1, T]` would otherwise give `[B, B, T]` without a word.
    """
    if fake.shape != real.shape or fake.dim() != 3 or fake.shape[-1] == 0:
        raise ValueError(
            "Expected two tensors of one shape [B, C, T] with T >= 1, got "
            f"fake {list(fake.shape)} and real {list(real.shape)}."
        )
