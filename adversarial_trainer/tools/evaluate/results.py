"""Results of an evaluation, and their form in evaluation.json."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adversarial_trainer.metrics import CodebookUsage, Metric
from adversarial_trainer.models.encodec import EncodecModel

from .estimates import Estimate, estimate
from .scoring import MODEL, FileScores, System

VERSION = 1
CODEBOOK_USE = ("usage", "perplexity", "entropy", "bitrate_efficiency", "entropy_bandwidth")
OF_CODEBOOKS = ("usage", "perplexity", "entropy")  # of a single codebook


@dataclass(frozen=True)
class Measure:
    """Words for a metric: its title, its unit, and whether higher values are better."""

    title: str
    unit: str
    higher_is_better: bool

    @property
    def good(self) -> str:
        return "higher" if self.higher_is_better else "lower"


@dataclass(frozen=True)
class Row:
    """Results of a system over all files.

    Attributes:
        metrics: mean of each metric that was measured.
        measured: kb/s that a baseline really used: all its bits over all seconds.
        use: `CODEBOOK_USE` over the codebooks that the model used; empty where it has no codes.
    """

    system: System
    metrics: Mapping[str, Estimate]
    measured: float | None = None
    use: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def bandwidth(self) -> float:
        """kb/s, measured where that is known."""
        return self.system.bandwidth if self.measured is None else self.measured


@dataclass(frozen=True)
class Results:
    """Results of an evaluation.

    Attributes:
        measures: words for each metric.
        rows: the model's with rising numbers of codebooks, then the baseline's.
        codebooks: `OF_CODEBOOKS` of each codebook; empty where the model has no codes.
        files: in their order.
    """

    measures: Mapping[str, Measure]
    rows: Sequence[Row]
    codebooks: Sequence[Mapping[str, float]]
    files: Sequence[FileScores]

    @property
    def seconds(self) -> float:
        return math.fsum(file.seconds for file in self.files)

    @property
    def systems(self) -> list[str]:
        """Names of the systems, in order."""
        return list(dict.fromkeys(row.system.name for row in self.rows))

    @property
    def codebook_use(self) -> list[str]:
        """Names of `CODEBOOK_USE` that have values."""
        return [key for key in CODEBOOK_USE if any(key in row.use for row in self.rows)]

    def rows_of(self, system: str) -> list[Row]:
        """Return the rows of a system by its name."""
        return [row for row in self.rows if row.system.name == system]

    def flat(self) -> dict[str, float]:
        """Return the model's results by flat names: `mel`, `usage`, `usage/0` (a codebook) at the
        highest bandwidth, `mel/1.50kbps` at the others."""
        *lower, highest = self.rows_of(MODEL)
        out = {name: value.mean for name, value in highest.metrics.items()}
        out.update(highest.use)
        for index, book in enumerate(self.codebooks):
            out.update({f"{key}/{index}": value for key, value in book.items()})
        out["bandwidth"] = highest.system.bandwidth
        for row in lower:
            title = f"{row.system.bandwidth:.2f}kbps"
            out.update({f"{name}/{title}": value.mean for name, value in row.metrics.items()})
        return out

    def to_json(self, model: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Return what docs/evaluation.md describes; NaN is null.

        Args:
            model: where the model is from.
            source: where the files are from.
        """
        names = _short_names([file.path for file in self.files])
        return {
            "version": VERSION,
            "model": dict(model),
            "data": {"files": len(self.files), "seconds": self.seconds, "source": source},
            "metrics": {name: dataclasses.asdict(m) for name, m in self.measures.items()},
            "rows": [
                {
                    **dict(zip(("system", "codebooks", "bandwidth"), row.system, strict=True)),
                    "measured": row.measured,
                    "metrics": {k: _nulls(dataclasses.asdict(v)) for k, v in row.metrics.items()},
                    **_nulls({key: row.use.get(key, math.nan) for key in CODEBOOK_USE}),
                }
                for row in self.rows
            ],
            "codebooks": [
                {"codebook": index, **_nulls(book)} for index, book in enumerate(self.codebooks)
            ],
            "files": [
                {
                    "name": name,
                    "seconds": file.seconds,
                    "rows": [
                        {
                            "system": score.system.name,
                            "bandwidth": score.system.bandwidth,
                            **_nulls(score.metrics),
                        }
                        for score in file.scores
                    ],
                }
                for file, name in zip(self.files, names, strict=True)
            ],
        }

    @staticmethod
    def from_json(data: Any) -> Results:
        """Return the results in evaluation.json, without the scores of single files.

        Raises TypeError, KeyError, AttributeError or ValueError for anything else.
        """
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']!r}; this is for version {VERSION}")
        measures = {
            str(name): Measure(str(m["title"]), str(m["unit"]), bool(m["higher_is_better"]))
            for name, m in data["metrics"].items()
        }
        rows = [
            Row(
                System(str(row["system"]), row["codebooks"], float(row["bandwidth"])),
                {
                    name: _estimate(row["metrics"][name])
                    for name in measures
                    if name in row["metrics"]
                },
                None if row["measured"] is None else float(row["measured"]),
                {key: float(row[key]) for key in CODEBOOK_USE if row.get(key) is not None},
            )
            for row in data["rows"]
        ]
        books = [{key: _number(book[key]) for key in OF_CODEBOOKS} for book in data["codebooks"]]
        files = [
            FileScores(index, str(file["name"]), float(file["seconds"]), ())
            for index, file in enumerate(data["files"])
        ]
        return Results(measures, rows, books, files)


def collect(
    files: Sequence[FileScores],
    systems: Sequence[System],
    metrics: Mapping[str, Metric],
    model: EncodecModel,
    usage: CodebookUsage | None,
) -> Results:
    """Return the means over `files`, which may be in any order; every rank calls it."""
    files = sorted(files, key=lambda file: file.index)
    books: list[dict[str, float]] = []
    if usage is not None:
        columns = {key: values.tolist() for key, values in usage.per_codebook().items()}
        books = [{key: columns[key][k] for key in OF_CODEBOOKS} for k in range(usage.num_codebooks)]
    rows = []
    for system in systems:
        scores = [
            (file.seconds, score)
            for file in files
            for score in file.scores
            if score.system == system
        ]
        rates = [(seconds, s.measured) for seconds, s in scores if s.measured is not None]
        measured = None
        if rates:
            measured = math.fsum(t * rate for t, rate in rates) / math.fsum(t for t, _ in rates)
        means = {
            name: estimate(s.metrics[name] for _, s in scores if name in s.metrics)
            for name in metrics
        }
        use = _codebook_use(books[: system.codebooks or 0], model)
        rows.append(Row(system, means, measured, use))
    measures = {
        name: Measure(metric.title, metric.unit, metric.higher_is_better)
        for name, metric in metrics.items()
    }
    return Results(measures, rows, books, files)


def _codebook_use(books: Sequence[Mapping[str, float]], model: EncodecModel) -> dict[str, float]:
    """Return the means over codebooks, the share of bits that carry information, and the kb/s that
    an ideal entropy coder of each codebook by itself would need."""
    if not books:
        return {}
    means = {key: math.fsum(book[key] for book in books) / len(books) for key in OF_CODEBOOKS}
    return {
        **means,
        "bitrate_efficiency": means["entropy"] / math.log2(model.cardinality),
        "entropy_bandwidth": means["entropy"] * len(books) * model.frame_rate / 1000,
    }


def _nulls(values: Mapping[str, float]) -> dict[str, float | None]:
    """Values for JSON, which has no NaN."""
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


def _estimate(data: Mapping[str, Any]) -> Estimate:
    mean, low, high = (_number(data[key]) for key in ("mean", "low", "high"))
    return Estimate(mean, low, high, int(data["count"]))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _short_names(paths: Sequence[str]) -> list[str]:
    """Return the paths below the folder that they have in common."""
    if not paths:
        return []
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return [os.path.relpath(path, root) for path in paths]
