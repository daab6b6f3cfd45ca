"""The scores of one file: what each system made of it, by each metric."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from adversarial_trainer.metrics import METRICS, Metric
from adversarial_trainer.registry import parameter_names

from .opus import Opus

MODEL = "model"
OPUS = "opus"


@dataclass(frozen=True)
class WantedMetric:
    """A metric by its name in `METRICS`; other processes build their own of it.

    Attributes:
        params: of its constructor, without the sample rate.
        num_files: on that many of the files, spread over them evenly; None: on all.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    num_files: int | None = None

    def build(self, sample_rate: int) -> Metric:
        params = dict(self.params)
        if "sample_rate" in parameter_names(METRICS.get_class(self.name)):
            params["sample_rate"] = sample_rate
        return METRICS.build(self.name, **params)

    def takes(self, index: int, total: int) -> bool:
        """Whether it is for file `index` of `total`. Spread, as neighbours in a folder are often
        of one speaker or one piece."""
        limit = self.num_files
        if limit is None or limit >= total:
            return True
        # floor(k total / limit) for k = 0, 1, ...: `limit` different files, the first among them.
        return (-(-index * limit // total)) * total // limit == index


@dataclass(frozen=True)
class System:
    """Something that reconstructs: the model with some codebooks, or a baseline at a rate.

    Attributes:
        bandwidth: nominal, kb/s.
    """

    name: str
    codebooks: int | None
    bandwidth: float


@dataclass(frozen=True)
class Score:
    """Of one file by one system; `metrics` has NaN where a metric is undefined.

    Attributes:
        measured: kb/s that the file really took, of a baseline.
    """

    system: System
    metrics: Mapping[str, float]
    measured: float | None = None


@dataclass(frozen=True)
class FileScores:
    """Of one file.

    Attributes:
        index: in the list of files.
    """

    index: int
    path: str
    seconds: float
    scores: Sequence[Score]


@dataclass(frozen=True)
class Task:
    """A file that has been reconstructed.

    Attributes:
        real, fakes: waveforms `[C, T]`; tensors, or arrays on the way to another process.
        metrics: names of those that are wanted of this file.
        opus: kb/s at which the baseline is.
    """

    index: int
    path: str
    real: Any
    fakes: Mapping[System, Any]
    metrics: Collection[str]
    opus: Sequence[float] = ()


class Scorer:
    """Scores files; can be pickled, as it builds its metrics where it is used.

    Args:
        sample_rate: of the waveforms, in Hz.
        opus: the baseline's program, where tasks have rates for it.
    """

    def __init__(
        self, wanted: Sequence[WantedMetric], sample_rate: int, opus: Opus | None = None
    ) -> None:
        self.wanted = wanted
        self.sample_rate = sample_rate
        self.opus = opus
        self._metrics: dict[str, Metric] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_metrics": {}}

    @property
    def metrics(self) -> dict[str, Metric]:
        if not self._metrics:
            self._metrics = {w.name: w.build(self.sample_rate) for w in self.wanted}
        return self._metrics

    @torch.no_grad()
    def __call__(self, task: Task) -> FileScores:
        scores = [Score(system, self._measure(task, fake)) for system, fake in task.fakes.items()]
        for bandwidth in task.opus:
            if self.opus is None:
                raise ValueError("rates for Opus, but no program")
            fake, measured = self.opus(task.real, self.sample_rate, bandwidth)
            system = System(OPUS, None, bandwidth)
            scores.append(Score(system, self._measure(task, fake), measured))
        seconds = task.real.shape[-1] / self.sample_rate
        return FileScores(task.index, task.path, seconds, scores)

    def _measure(self, task: Task, fake: torch.Tensor) -> dict[str, float]:
        values = {}
        for name, metric in self.metrics.items():
            if name in task.metrics:
                values[name] = float(metric.to(fake.device)(fake[None], task.real[None]))
        return values
