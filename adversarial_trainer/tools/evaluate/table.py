"""Evaluation as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .estimates import Estimate
from .results import Results


def to_text(results: Results) -> str:
    """Return the rate-distortion table and that of codebook use; lines end in newlines."""
    measured = any(row.measured is not None for row in results.rows)
    head = ["system", "codebooks", "kb/s", *(["measured"] if measured else [])]
    units = [""] * len(head) + [measure.unit for measure in results.measures.values()]
    arrows = {True: "↑", False: "↓"}
    head += [f"{m.title} {arrows[m.higher_is_better]}" for m in results.measures.values()]
    lines = [head, units]
    for row in results.rows:
        line = [row.system.name, str(row.system.codebooks or "-"), f"{row.system.bandwidth:.2f}"]
        if measured:
            line.append("-" if row.measured is None else f"{row.measured:.2f}")
        lines.append([*line, *(_interval(row.metrics[name]) for name in results.measures)])
    text = _align(lines) + "Mean over files +- its 95 % confidence interval.\n"
    columns = {"usage": 3, "perplexity": 1, "bitrate_efficiency": 3, "entropy_bandwidth": 2}
    lines = [["codebooks", "kb/s", "usage", "perplexity", "efficiency", "entropy kb/s"]]
    for row in results.rows:
        if row.use:
            cells = [_number(row.use[key], digits) for key, digits in columns.items()]
            lines.append([str(row.system.codebooks), f"{row.system.bandwidth:.2f}", *cells])
    return text + ("\n" + _align(lines) if len(lines) > 1 else "")


def _interval(value: Estimate) -> str:
    if math.isnan(value.low):
        return _number(value.mean, 3)
    return f"{value.mean:.3f} +- {value.half_width:.3f}"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _align(lines: Sequence[Sequence[str]]) -> str:
    """Return columns, aligned to the right but for the first."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ""
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        cells[0] = line[0].ljust(widths[0])
        text += "  ".join(cells).rstrip() + "\n"
    return text
