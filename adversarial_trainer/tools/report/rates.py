"""An evaluation's results (`evaluation.json`), as far as pages show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Interval:
    """A mean over files with its 95 % confidence interval, which may be unknown."""

    mean: float
    low: float | None
    high: float | None
    count: int


@dataclass
class Row:
    """A system at one bandwidth in kb/s; `measured` is what it really used."""

    system: str
    codebooks: int | None
    bandwidth: float
    measured: float | None
    metrics: dict[str, Interval]
    others: dict[str, float | None]


@dataclass
class Measure:
    """A metric: for people, in `unit`, and which way is good."""

    title: str
    unit: str
    higher_is_better: bool


@dataclass
class Evaluation:
    """Rows by system and bandwidth; `codebooks` has usage, perplexity and entropy of each."""

    metrics: dict[str, Measure]
    rows: list[Row]
    codebooks: list[dict[str, float | None]]
    files: int
    seconds: float

    @property
    def systems(self) -> list[str]:
        """The model first."""
        names = dict.fromkeys(row.system for row in self.rows)
        return sorted(names, key=lambda name: name != "model")


_OTHERS = ("usage", "perplexity", "bitrate_efficiency", "entropy_bandwidth")


def read_evaluation(data: Any) -> Evaluation:
    """Check what was read from a file. ValueError says what does not fit."""
    try:
        version = data["version"]
        if version != 1:
            raise ValueError(f"version {version!r}, and this is for version 1")
        metrics = {
            str(name): Measure(str(m["title"]), str(m["unit"]), bool(m["higher_is_better"]))
            for name, m in data["metrics"].items()
        }
        rows = [_row(row, metrics) for row in data["rows"]]
        codebooks = [
            {name: _number(book.get(name)) for name in ("usage", "perplexity", "entropy")}
            for book in data["codebooks"]
        ]
        files, seconds = int(data["data"]["files"]), float(data["data"]["seconds"])
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return Evaluation(metrics, rows, codebooks, files, seconds)


def _row(row: Any, metrics: dict[str, Measure]) -> Row:
    intervals = {}
    for name in metrics:
        found = row["metrics"].get(name) or {}
        if (mean := _number(found.get("mean"))) is not None:
            low, high = _number(found.get("low")), _number(found.get("high"))
            intervals[name] = Interval(mean, low, high, int(found.get("count", 0)))
    codebooks = _number(row.get("codebooks"))
    return Row(
        str(row["system"]),
        None if codebooks is None else int(codebooks),
        float(row["bandwidth"]),
        _number(row.get("measured")),
        intervals,
        {name: _number(row.get(name)) for name in _OTHERS},
    )


def _number(value: Any) -> float | None:
    """A finite number of reasonable size, or None."""
    plain = isinstance(value, float | int) and not isinstance(value, bool)
    return float(value) if plain and abs(value) < 1e300 else None
