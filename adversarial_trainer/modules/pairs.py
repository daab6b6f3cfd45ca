"""Shape check for losses and metrics, which compare two batches of audio."""

from __future__ import annotations

from torch import Tensor


def check_pair(fake: Tensor, real: Tensor) -> None:
    """Raise ValueError unless `fake` and `real` are both `[B, C, T]` with T >= 1.

    Broadcasting `[B, T]` against `[B, 1, T]` would otherwise give `[B, B, T]` silently.
    """
    if fake.shape != real.shape or fake.dim() != 3 or fake.shape[-1] == 0:
        raise ValueError(
            "Expected two tensors of one shape [B, C, T] with T >= 1, got "
            f"fake {list(fake.shape)} and real {list(real.shape)}."
        )
