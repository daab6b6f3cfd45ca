"""Scores of one file: each metric of each system's reconstruction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adversarial_trainer.metrics import METRICS, Metric
from adversarial_trainer.registry import parameter_names

from .opus import Opus

MODEL = "model"
OPUS = "opus"


@dataclass(frozen=True)
class WantedMetric:
    """A metric that is asked for.

    Attributes:
        name: in `METRICS`.
        params: arguments of its constructor, without the sample rate.
        num_files: number of files it is computed on, spread evenly over them; None: all.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    num_files: int | None = None

    def build(self, sample_rate: int) -> Metric:
        """Return the metric, for audio at `sample_rate` Hz."""
        params = dict(self.params)
        if "sample_rate" in parameter_names(METRICS.get_class(self.name)):
            params["sample_rate"] = sample_rate
        return METRICS.build(self.name, **params)

    def takes(self, index: int, total: int) -> bool:
        """Return whether it is computed on file `index` of `total`.

        The files are spread, as neighbours in a folder are often of one speaker or one piece.
        """
        limit = self.num_files
        if limit is None or limit >= total:
            return True
        # floor(k total / limit) for k = 0, 1, ...: `limit` different files, the first among them.
        return (-(-index * limit // total)) * total // limit == index


class System(NamedTuple):
    """The model with some of its codebooks, or a baseline, at a nominal bandwidth in kb/s."""

    name: str
    codebooks: int | None
    bandwidth: float


class Score(NamedTuple):
    """Metrics of one file and one system, NaN where undefined; and the kb/s that a baseline
    really used for it."""

    system: System
    metrics: Mapping[str, float]
    measured: float | None = None


@dataclass(frozen=True)
class FileScores:
    """Scores of one file, which is number `index` in the list of files."""

    index: int
    path: str
    seconds: float
    scores: Sequence[Score]


@dataclass(frozen=True)
class Task:
    """A file to score.

    Attributes:
        index, path: of the file.
        real: the original, `[C, T]`.
        fakes: what the model made of it, `[C, T]` each.
        metrics: names of the metrics to compute.
        opus: kb/s at which the baseline is scored.
    """

    index: int
    path: str
    real: Tensor
    fakes: Mapping[System, Tensor]
    metrics: Collection[str]
    opus: Sequence[float] = ()


class Scorer:
    """Scores files, on the device of their waveforms.

    Args:
        wanted: metrics.
        sample_rate: of the waveforms, in Hz.
        opus: program of the baseline, where tasks have rates for it.
    """

    def __init__(
        self, wanted: Sequence[WantedMetric], sample_rate: int, opus: Opus | None = None
    ) -> None:
        self.wanted = wanted
        self.sample_rate = sample_rate
        self.opus = opus
        self.metrics = {metric.name: metric.build(sample_rate) for metric in wanted}

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process builds the metrics anew: some hold libraries that cannot be pickled.
        return Scorer, (self.wanted, self.sample_rate, self.opus)

    @torch.no_grad()
    def __call__(self, task: Task) -> FileScores:
        """Return the scores of a file."""
        scores = [Score(system, self._measure(task, fake)) for system, fake in task.fakes.items()]
        if self.opus is not None:
            for bandwidth in task.opus:
                fake, measured = self.opus(task.real, self.sample_rate, bandwidth)
                system = System(OPUS, None, bandwidth)
                scores.append(Score(system, self._measure(task, fake), measured))
        seconds = task.real.shape[-1] / self.sample_rate
        return FileScores(task.index, task.path, seconds, scores)

    def _measure(self, task: Task, fake: Tensor) -> dict[str, float]:
        return {
            name: float(metric.to(fake.device)(fake[None], task.real[None]))
            for name, metric in self.metrics.items()
            if name in task.metrics
        }
