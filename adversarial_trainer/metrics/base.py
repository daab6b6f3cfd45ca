"""Base class of metrics that compare two batches of audio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from adversarial_trainer.audio import resample
from adversarial_trainer.modules.spectral import check_pair


class Metric(nn.Module):
    """Metric of reconstructions: `metric(fake, real)`, `[B, C, T], [B, C, T] -> [B]`, without
    gradient.

    Nominal range of the audio is [-1, 1]; any T >= 1. An item whose value is undefined gives NaN
    where the metric's docstring says so: average with `nanmean`.

    Attributes:
        title: name in tables and plots.
        higher_is_better: whether higher values are better.
        unit: of the values, as in "dB".
        slow: whether it takes long, so that a sample of the files may have to do. Slow metrics
            run on the CPU.
    """

    title: str
    higher_is_better: bool
    unit: str
    slow = False

    def prepare(self) -> None:
        """Import the packages it needs; ImportError says how to install them."""

    @torch.no_grad()
    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        return self.measure(fake, real)

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the values `[B]` for `fake` and `real` of equal shapes."""
        raise NotImplementedError


def mono(x: Tensor, sample_rate: int, rate: int) -> np.ndarray:
    """Return `x` `[B, C, T]` mixed to one channel at `rate` Hz, float64 `[B, T']`, for packages
    that compare single channels."""
    return resample(x.detach().cpu().double().mean(1), sample_rate, rate).numpy()


@contextmanager
def needing(packages: str) -> Iterator[None]:
    """Add to an ImportError inside how to install what a metric needs."""
    try:
        yield
    except ImportError as exc:
        raise ImportError(f"{exc}; the metric needs {packages}") from exc
