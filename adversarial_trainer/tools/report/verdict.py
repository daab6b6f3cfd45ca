"""A run's results in sentences, for the top of its page."""

from __future__ import annotations

from collections.abc import Mapping

from adversarial_trainer.registry import format_count
from adversarial_trainer.tools.evaluate.results import MODEL, Results, Row

from .run import Run


def verdict(run: Run) -> list[str]:
    """Return sentences on what the codec does at its highest and lowest bandwidth, beside what it
    did before training and beside Opus; none where there is no evaluation."""
    results = run.evaluation
    if results is None or not results.rows_of(MODEL):
        return []
    lowest, highest = results.rows_of(MODEL)[0], results.rows_of(MODEL)[-1]
    lines = [
        f"At {highest.bandwidth:g} kb/s, on {format_count(len(results.files), 'file')} that it was "
        f"not trained on: {_values(results, highest, run.last('start'))}."
    ]
    if lowest is not highest:
        lines.append(f"At {lowest.bandwidth:g} kb/s: {_values(results, lowest)}.")
    for row in results.rows:
        if row.system != MODEL:
            system = row.system.capitalize()
            lines.append(f"{system} at {row.rate:.3g} kb/s: {_values(results, row)}.")
    return lines


def _values(results: Results, row: Row, start: Mapping[str, float] | None = None) -> str:
    """Return the metrics of a row; with those before training also which way is good."""
    parts = []
    for name, measure in results.metrics.items():
        mean = row.metrics[name].mean
        if mean is None:
            continue
        text = f"{measure.title} {mean:.2f}"
        if start is not None:
            before = f"before training {start[name]:.2f}; " if name in start else ""
            text += f" ({before}good is {measure.good})"
        parts.append(text)
    return ", ".join(parts)
