"""An evaluation as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from adversarial_trainer.metrics import Metric

from .estimates import Estimate
from .results import Results


def to_text(results: Results) -> str:
    """The rate-distortion table and that of codebook use, for a terminal; lines end in newlines."""
    head = ["system", "codebooks", "kb/s"]
    measured = any(row.measured is not None for row in results.rows)
    head += ["measured"] if measured else []
    units = [*([""] * len(head)), *(metric.unit for metric in results.metrics.values())]
    head += [_title(metric) for metric in results.metrics.values()]
    lines = [head, units]
    for row in results.rows:
        line = [row.system.name, str(row.system.codebooks or "-"), f"{row.system.bandwidth:.2f}"]
        if measured:
            line.append("-" if row.measured is None else f"{row.measured:.2f}")
        lines.append([*line, *(_cell(value) for value in row.metrics.values())])
    text = _align(lines) + "Mean over files +- its 95 % confidence interval.\n"
    used = [row for row in results.rows if row.use]
    if used:
        lines = [["codebooks", "kb/s", "usage", "perplexity", "efficiency", "entropy kb/s"]]
        for row in used:
            use = row.use
            lines.append(
                [
                    *(str(row.system.codebooks), f"{row.system.bandwidth:.2f}"),
                    *(_number(use["usage"], 3), _number(use["perplexity"], 1)),
                    *(_number(use["bitrate_efficiency"], 3), _number(use["entropy_bandwidth"], 2)),
                ]
            )
        text += "\n" + _align(lines)
    return text


def _title(metric: Metric) -> str:
    arrow = "↑" if metric.higher_is_better else "↓"
    return f"{metric.title} {arrow}"


def _cell(value: Estimate) -> str:
    if math.isnan(value.low):
        return _number(value.mean, 3)
    return f"{value.mean:.3f} +- {value.half_width:.3f}"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _align(lines: Sequence[Sequence[str]]) -> str:
    """In columns, right-aligned but for the first."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ""
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        cells[0] = line[0].ljust(widths[0])
        text += "  ".join(cells).rstrip() + "\n"
    return text
