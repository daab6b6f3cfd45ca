"""What an evaluation gives."""

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
CODEBOOK_USE = ("usage", "perplexity", "bitrate_efficiency", "entropy_bandwidth")


@dataclass(frozen=True)
class Row:
    """A system over all files.

    Attributes:
        measured: kb/s really used, of a baseline: all its bits over all seconds.
        use: `CODEBOOK_USE` of the codebooks in use; empty where there are none.
    """

    system: System
    metrics: Mapping[str, Estimate]
    measured: float | None
    use: Mapping[str, float]

    @property
    def bandwidth(self) -> float:
        """kb/s, measured where that is known."""
        return self.system.bandwidth if self.measured is None else self.measured


@dataclass(frozen=True)
class Results:
    """Of an evaluation.

    Attributes:
        metrics: by name; each has title, unit and direction.
        rows: the model's with rising numbers of codebooks, then the baseline's.
        codebooks: `usage` (share of entries), `entropy` (bits) and `perplexity` of each.
        summary: what `CodebookUsage.compute` says of all of them; empty where there are none.
        files: in order.
    """

    metrics: Mapping[str, Metric]
    rows: Sequence[Row]
    codebooks: Sequence[Mapping[str, float]]
    summary: Mapping[str, float]
    files: Sequence[FileScores]

    @property
    def seconds(self) -> float:
        return math.fsum(file.seconds for file in self.files)

    def flat(self) -> dict[str, float]:
        """For a history: at the highest bandwidth each metric by its name, with the codebooks'
        use; at the others as `mel/1.50kbps`."""
        *lower, highest = [row for row in self.rows if row.system.name == MODEL]
        out = {name: value.mean for name, value in highest.metrics.items()}
        out.update(self.summary)
        for index, book in enumerate(self.codebooks):
            out.update({f"{key}/{index}": value for key, value in book.items()})
        out["bandwidth"] = highest.system.bandwidth
        for row in lower:
            title = f"{row.system.bandwidth:.2f}kbps"
            out.update({f"{name}/{title}": value.mean for name, value in row.metrics.items()})
        return out

    def to_json(self, model: Mapping[str, Any], source: str) -> dict[str, Any]:
        """As docs/evaluation.md describes it; NaN is null.

        Args:
            model: where the model is from.
            source: where the files are from.
        """
        names = _short_names([file.path for file in self.files])
        return {
            "version": VERSION,
            "model": dict(model),
            "data": {"files": len(self.files), "seconds": self.seconds, "source": source},
            "metrics": {
                name: {"title": m.title, "unit": m.unit, "higher_is_better": m.higher_is_better}
                for name, m in self.metrics.items()
            },
            "rows": [_row(row) for row in self.rows],
            "codebooks": [
                {"codebook": index, **{key: _finite(value) for key, value in book.items()}}
                for index, book in enumerate(self.codebooks)
            ],
            "files": [_file(file, name) for file, name in zip(self.files, names, strict=True)],
        }


def collect(
    files: Sequence[FileScores],
    systems: Sequence[System],
    metrics: Mapping[str, Metric],
    model: EncodecModel,
    usage: CodebookUsage | None,
) -> Results:
    """The means over `files`, in any order; every rank calls it."""
    files = sorted(files, key=lambda file: file.index)
    books: list[dict[str, float]] = []
    summary: dict[str, float] = {}
    if usage is not None:
        summary = usage.compute()
        columns = {key: values.tolist() for key, values in usage.per_codebook().items()}
        table = zip(*columns.values(), strict=True)
        books = [dict(zip(columns, row, strict=True)) for row in table]
    rows = []
    for system in systems:
        scores = [
            (file.seconds, score)
            for file in files
            for score in file.scores
            if score.system == system
        ]
        sums = [(seconds, s.measured) for seconds, s in scores if s.measured is not None]
        measured = None
        if sums:
            measured = math.fsum(t * rate for t, rate in sums) / math.fsum(t for t, _ in sums)
        estimates = {
            name: estimate(s.metrics[name] for _, s in scores if name in s.metrics)
            for name in metrics
        }
        use = _codebook_use(books[: system.codebooks or 0], model)
        rows.append(Row(system, estimates, measured, use))
    return Results(metrics, rows, books, summary, files)


def _codebook_use(books: Sequence[Mapping[str, float]], model: EncodecModel) -> dict[str, float]:
    """Means over the codebooks, and the kb/s that an ideal entropy coder of each codebook by
    itself would need."""
    if not books:
        return {}
    means = {
        key: math.fsum(book[key] for book in books) / len(books)
        for key in ("usage", "perplexity", "entropy")
    }
    return {
        "usage": means["usage"],
        "perplexity": means["perplexity"],
        "bitrate_efficiency": means["entropy"] / math.log2(model.cardinality),
        "entropy_bandwidth": means["entropy"] * len(books) * model.frame_rate / 1000,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "system": row.system.name,
        "codebooks": row.system.codebooks,
        "bandwidth": row.system.bandwidth,
        "measured": row.measured,
        "metrics": {
            name: {key: _finite(value) for key, value in dataclasses.asdict(found).items()}
            for name, found in row.metrics.items()
        },
        **{key: _finite(row.use.get(key, math.nan)) for key in CODEBOOK_USE},
    }


def _file(file: FileScores, name: str) -> dict[str, Any]:
    rows = [
        {
            "system": score.system.name,
            "bandwidth": score.system.bandwidth,
            **{key: _finite(value) for key, value in score.metrics.items()},
        }
        for score in file.scores
    ]
    return {"name": name, "seconds": file.seconds, "rows": rows}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _short_names(paths: Sequence[str]) -> list[str]:
    """Below the folder that they have in common."""
    if not paths:
        return []
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return [os.path.relpath(path, root) for path in paths]
