"""Metrics over bandwidth, drawn."""

from __future__ import annotations

import math
from pathlib import Path

from .results import Results

COLUMNS = 3


def draw_rate_distortion(results: Results, path: Path) -> None:
    """A PNG with a panel for each metric: a line for each system, with confidence intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(1, min(COLUMNS, len(results.metrics)))
    lines = max(1, math.ceil(len(results.metrics) / columns))
    figure = Figure(figsize=(3.6 * columns, 2.9 * lines), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False).flat
    systems = list(dict.fromkeys(row.system.name for row in results.rows))
    for (name, metric), axis in zip(results.metrics.items(), panels, strict=False):
        for number, system in enumerate(systems):
            rows = [row for row in results.rows if row.system.name == system]
            found = [row.metrics[name] for row in rows]
            bars = [0.0 if math.isnan(value.low) else value.half_width for value in found]
            axis.errorbar(
                [row.bandwidth for row in rows],
                [value.mean for value in found],
                yerr=bars,
                label=system,
                marker="os"[number % 2],
                markersize=4,
                linewidth=1.3,
                capsize=3,
            )
        better = "higher" if metric.higher_is_better else "lower"
        axis.set_title(f"{metric.title} ({better} is better)", fontsize=9)
        axis.set_ylabel(metric.unit, fontsize=8)
        axis.set_xlabel("kb/s", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        if len(systems) > 1:
            axis.legend(fontsize=7)
    for axis in list(figure.axes)[len(results.metrics) :]:
        axis.set_axis_off()
    figure.savefig(path, format="png")
