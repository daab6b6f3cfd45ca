"""Line charts as SVG pictures, drawn by matplotlib."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .names import capitalised

COLOURS = 10  # of matplotlib's lines; further lines are dashed, then dotted
DASHES = ("solid", "dashed", "dotted")
MAX_MARKED = 40  # points of a line, up to which each has a mark
SIZE = (5.0, 2.9)  # inches of the axes with their labels
# Matplotlib's settings: text stays text, without formulas, and the same chart gives the same bytes.
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: for the legend.
        points: (x, y).
        bounds: confidence interval (low, high) of each point, None where it has none; or empty.
        colour: index of its colour; None: its place among the lines.
        dashed: whether it is dashed, to tell it from another line of that colour.
    """

    name: str
    points: Sequence[tuple[float, float]]
    bounds: Sequence[tuple[float | None, float | None]] = ()
    colour: int | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawn chart; `picture` is a data URI."""

    title: str
    caption: str
    picture: str


def draw_chart(
    title: str,
    lines: Sequence[Line],
    caption: str,
    x_label: str = "update",
    y_range: tuple[float, float] | None = None,
    guide: float | None = None,
) -> Chart | None:
    """Draw lines over updates or bandwidths; None if no line has a point.

    Args:
        title: of the chart.
        lines: with finite values.
        caption: what is shown, and which way is good.
        x_label: "update" has ticks at whole numbers only.
        y_range: limits of the y axis; None: from the values.
        guide: a level to compare with, drawn as a dotted line.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [(n, line) for n, line in enumerate(lines) if line.points]
    if not shown:
        return None
    with rc_context(SETTINGS):
        figure = Figure(SIZE)
        axes = figure.subplots()
        for number, line in shown:
            _draw(axes, line, number if line.colour is None else line.colour)
        if guide is not None:
            axes.axhline(guide, color="grey", linewidth=0.8, linestyle="dotted")
        if y_range is not None:
            axes.set_ylim(y_range)
        elif all(y >= 0 for _, line in shown for _, y in line.points):
            axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=x_label == "update", min_n_ticks=1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.grid(axis="y", alpha=0.4)
        axes.spines[:].set_visible(False)
        if any(line.name for _, line in shown):
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.18), ncols=3, frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    return Chart(capitalised(title), caption, f"data:image/svg+xml;base64,{data}")


def _draw(axes: Any, line: Line, index: int) -> None:
    """Draw a line in the colour of a number, with its intervals."""
    dash = DASHES[(index // COLOURS + line.dashed) % len(DASHES)]
    for (x, _), (low, high) in zip(line.points, line.bounds, strict=False):
        if low is not None:
            axes.plot([x, x], [low, high], f"C{index % COLOURS}", linewidth=1, alpha=0.6)
    marker = "o" if len(line.points) <= MAX_MARKED else ""
    xs, ys = zip(*line.points, strict=True)
    name = line.name.encode(errors="backslashreplace").decode()  # may hold what is not UTF-8
    axes.plot(
        xs, ys, f"C{index % COLOURS}", linestyle=dash, marker=marker, markersize=3.5,
        label=name or None,
    )  # fmt: skip
