"""What the metrics that compare two batches of audio have in common."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from adversarial_trainer.audio import resample
from adversarial_trainer.modules.pairs import check_pair


class Metric(nn.Module):
    """`metric(fake, real)`: `[B, C, T], [B, C, T] -> [B]`, one value an item, without gradient.

    Nominal range of the audio is [-1, 1]; any T >= 1. An item whose value is undefined gives NaN
    where the metric's docstring says so: average with `nanmean`.

    Attributes:
        title: the name in tables and plots.
        higher_is_better: direction of improvement.
        unit: of the values, e.g. 'dB'.
        slow: whether it takes long, on the CPU, so that a sample of the files may have to do.
    """

    title: str
    higher_is_better: bool
    unit: str
    slow = False

    def prepare(self) -> None:
        """Load what it needs beside torch; ImportError says how to get that."""

    @torch.no_grad()
    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        return self.measure(fake, real)

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        """The metric itself, on checked shapes."""
        raise NotImplementedError


def mono(x: Tensor, sample_rate: int, rate: int) -> np.ndarray:
    """For packages that compare single channels: `[B, C, T]` -> float64 `[B, T']` at `rate` Hz."""
    return resample(x.detach().cpu().double().mean(1), sample_rate, rate).numpy()
