"""Base classes of metrics that compare two batches of audio."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from adversarial_trainer.audio import resample
from adversarial_trainer.modules.spectral import check_pair


class Metric(nn.Module, ABC):
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
        values = self.measure(fake, real)
        if values.shape != fake.shape[:1]:
            shapes = f"{list(values.shape)} instead of {[len(fake)]}"
            raise ValueError(f"{type(self).__name__}.measure returned {shapes}.")
        return values

    @abstractmethod
    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the values `[B]` for `fake` and `real` of equal shapes."""


class PackageMetric(Metric):
    """Metric through a package for single clips of one channel, on the CPU.

    Channels are mixed to mono and resampled.

    Args:
        sample_rate: of the audio given, in Hz.
        rate: that the package works at, in Hz.

    Attributes:
        package: to import.
        install: how to install it.
    """

    higher_is_better = True
    slow = True
    package: str
    install: str

    def __init__(self, sample_rate: int, rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.rate = rate

    def prepare(self) -> None:
        try:
            importlib.import_module(self.package)
        except ImportError as exc:
            raise ImportError(f"{exc}; the metric needs {self.install}") from exc

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        self.prepare()
        fakes, reals = (
            resample(x.detach().cpu().double().mean(1), self.sample_rate, self.rate).numpy()
            for x in (fake, real)
        )
        scores = [self.score(f, r) for f, r in zip(fakes, reals, strict=True)]
        return torch.tensor(scores, dtype=torch.float32, device=fake.device)

    @abstractmethod
    def score(self, fake: np.ndarray, real: np.ndarray) -> float:
        """Return the value of a clip, float64 `[T]` at `rate` Hz; NaN where it has none."""
