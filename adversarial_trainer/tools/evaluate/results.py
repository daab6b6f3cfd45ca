"""Results of an evaluation. Their fields are the keys of evaluation.json (docs/evaluation.md)."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

MODEL = "model"  # name of the system that is evaluated; a baseline has its own
VERSION = 1
CODEBOOK_USE = ("usage", "perplexity", "entropy", "bitrate_efficiency", "entropy_bandwidth")


@dataclass(frozen=True)
class Estimate:
    """Mean over `count` files and its 95 % confidence interval; None where there is none."""

    mean: float | None
    low: float | None
    high: float | None
    count: int

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def format(self, digits: int) -> str:
        """Return the mean and half the width of its interval, as in "1.50 ± 0.25"."""
        if self.mean is None:
            return "–"
        text = f"{self.mean:.{digits}f}"
        return text if self.half_width is None else f"{text} ± {self.half_width:.{digits}f}"


def estimate(values: Iterable[float | None]) -> Estimate:
    """Return the mean of the values that are not None, and its interval.

    The interval is Student's, as files are a sample of unknown spread:
    mean +- t(0.975, n - 1) s / sqrt(n), from two files on.
    """
    known = [value for value in values if value is not None]
    count = len(known)
    if count < 2:
        return Estimate(known[0] if known else None, None, None, count)
    from scipy.special import stdtrit  # quick to import, unlike scipy.stats

    mean = statistics.fmean(known)
    half = float(stdtrit(count - 1, 0.975)) * statistics.stdev(known) / math.sqrt(count)
    return Estimate(mean, mean - half, mean + half, count)


@dataclass(frozen=True)
class Measure:
    """Words for a metric: its title, its unit, and whether higher values are better."""

    title: str
    unit: str
    higher_is_better: bool

    @property
    def good(self) -> str:
        return "higher" if self.higher_is_better else "lower"

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"


@dataclass(frozen=True)
class Row:
    """Results of a system over all files, the model with some of its codebooks or a baseline.

    Attributes:
        bandwidth: nominal, in kb/s.
        measured: kb/s that a baseline really used: all its bits over all seconds.
        metrics: mean of each metric.
        usage, perplexity, entropy (bits), bitrate_efficiency, entropy_bandwidth (kb/s): of the
            codebooks that the model used; None of a baseline, and where the model has no codes.
    """

    system: str
    codebooks: int | None
    bandwidth: float
    measured: float | None
    metrics: Mapping[str, Estimate]
    usage: float | None = None
    perplexity: float | None = None
    entropy: float | None = None
    bitrate_efficiency: float | None = None
    entropy_bandwidth: float | None = None

    @property
    def rate(self) -> float:
        """kb/s, measured where that is known."""
        return self.bandwidth if self.measured is None else self.measured


@dataclass(frozen=True)
class Results:
    """Results of an evaluation.

    Attributes:
        metrics: words for each metric.
        rows: the model's with rising numbers of codebooks, then the baseline's.
        codebooks: use of each codebook; empty where the model has no codes.
        files: name, seconds and values of each file.
    """

    metrics: Mapping[str, Measure]
    rows: Sequence[Row]
    codebooks: Sequence[Mapping[str, int | float | None]]
    files: Sequence[Mapping[str, Any]]

    @property
    def seconds(self) -> float:
        return math.fsum(file["seconds"] for file in self.files)

    @property
    def systems(self) -> list[str]:
        """Names of the systems, in order."""
        return list(dict.fromkeys(row.system for row in self.rows))

    def rows_of(self, system: str) -> list[Row]:
        return [row for row in self.rows if row.system == system]

    def flat(self) -> dict[str, float]:
        """Return the model's results by flat names: `mel`, `usage`, `usage/0` (a codebook) at the
        highest bandwidth, `mel/1.50kbps` at the others. What has no value is left out."""
        *lower, highest = self.rows_of(MODEL)
        out = {name: value.mean for name, value in highest.metrics.items()}
        out |= {key: getattr(highest, key) for key in CODEBOOK_USE}
        for book in self.codebooks:
            out |= {f"{key}/{book['codebook']}": book[key] for key in book if key != "codebook"}
        out["bandwidth"] = highest.bandwidth
        for row in lower:
            title = f"{row.bandwidth:.2f}kbps"
            out |= {f"{name}/{title}": value.mean for name, value in row.metrics.items()}
        return {name: value for name, value in out.items() if value is not None}

    def to_json(self, model: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Return what evaluation.json holds; `model` and `source` say where the model and the
        files are from."""
        data = {"files": len(self.files), "seconds": self.seconds, "source": source}
        return {"version": VERSION, "model": model, "data": data, **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Results:
        """Return the results in evaluation.json; ValueError for anything else."""
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']!r}; this is for version {VERSION}")
        return TypeAdapter(Results).validate_python(data)
