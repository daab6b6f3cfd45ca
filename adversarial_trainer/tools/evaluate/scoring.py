"""Scores of one file: each metric of each system's reconstruction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adversarial_trainer.metrics import METRICS, Metric
from adversarial_trainer.models.builders import naming
from adversarial_trainer.registry import parameter_names

from .opus import Opus
from .results import MODEL


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
        """Return the metric, for audio at `sample_rate` Hz; ValueError names a wrong key."""
        params = dict(self.params)
        with naming(f"evaluate.{self.name}"):
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


class Task(NamedTuple):
    """A file to score.

    Attributes:
        number, path: of the file in the list of files.
        real: the original, `[C, T]`.
        fakes: what the model made of it at each bandwidth (kb/s), `[C, T]` each.
        metrics: names of the metrics to compute.
    """

    number: int
    path: str
    real: Tensor
    fakes: Mapping[float, Tensor]
    metrics: Sequence[str]


class FileScores(NamedTuple):
    """Scores of one file, by its number in the list of files.

    `rows` have `system`, `bandwidth`, `measured` and the metrics, of the model at each bandwidth
    and then of the baseline. None stands for what has no value.
    """

    number: int
    path: str
    seconds: float
    rows: list[dict[str, Any]]


class Scorer:
    """Scores files, on the device of their waveforms.

    Args:
        wanted: metrics.
        sample_rate: of the waveforms, in Hz.
        opus: baseline.
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
        rows = [self._row(task, MODEL, rate, None, fake) for rate, fake in task.fakes.items()]
        if self.opus is not None:
            for rate in self.opus.rates:
                fake, measured = self.opus(task.real, self.sample_rate, rate)
                rows.append(self._row(task, self.opus.name, rate, measured, fake))
        return FileScores(task.number, task.path, task.real.shape[-1] / self.sample_rate, rows)

    def _row(
        self, task: Task, system: str, bandwidth: float, measured: float | None, fake: Tensor
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"system": system, "bandwidth": bandwidth, "measured": measured}
        for name in task.metrics:
            metric = self.metrics[name].to(fake.device)
            value = float(metric(fake[None], task.real[None]))
            row[name] = value if math.isfinite(value) else None
        return row
