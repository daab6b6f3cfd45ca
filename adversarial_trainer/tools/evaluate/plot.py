"""Plot of an evaluation: metrics over bandwidth."""

from __future__ import annotations

import math
from pathlib import Path

from .results import Results

COLUMNS = 3


def draw_rate_distortion(results: Results, path: Path) -> None:
    """Write a PNG with a panel for each metric, a line for each system, and intervals."""
    from matplotlib.figure import Figure

    columns = max(1, min(COLUMNS, len(results.measures)))
    lines = max(1, math.ceil(len(results.measures) / columns))
    figure = Figure(figsize=(3.6 * columns, 2.9 * lines), dpi=110, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for (name, measure), axes in zip(results.measures.items(), panels, strict=False):
        for number, system in enumerate(results.systems):
            rows = results.rows_of(system)
            found = [row.metrics[name] for row in rows]
            axes.errorbar(
                [row.bandwidth for row in rows],
                [value.mean for value in found],
                yerr=[0.0 if math.isnan(value.low) else value.half_width for value in found],
                label=system,
                marker="os"[number % 2],
                markersize=4,
                linewidth=1.3,
                capsize=3,
            )
        axes.set_title(f"{measure.title} ({measure.good} is better)", fontsize=9)
        axes.set_ylabel(measure.unit, fontsize=8)
        axes.set_xlabel("kb/s", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if len(results.systems) > 1:
            axes.legend(fontsize=7)
    for axes in figure.axes[len(results.measures) :]:
        axes.set_axis_off()
    figure.savefig(path, format="png")
