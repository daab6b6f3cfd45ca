"""Line charts as SVG elements, drawn by matplotlib in the colours of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from .names import capitalised

COLOURS = 8  # of lines in page.css; further lines are dashed, then dotted
DASHES = ("solid", "dashed", "dotted")
MAX_MARKED = 40  # points of a line, up to which each has a mark that shows its value
SIZE = (5.0, 2.9)  # inches of 72 points
AREA = (0.16, 0.15, 0.83, 0.82)  # left, bottom, width and height of the axes in it

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "http://www.w3.org/1999/xlink"
# Matplotlib's settings: text stays text, and the same chart gives the same bytes.
SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 10}
# Colours that stand for variables of page.css, which differ in light and dark mode.
GRID, GUIDE = "#c0de98", "#c0de99"
VARIABLES = {GRID: "--line", GUIDE: "--soft"} | {f"#c0de{i:02}": f"--c{i}" for i in range(COLOURS)}


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
    """A drawn chart: `legend` has name, index of colour and kind of dashes of each line."""

    title: str
    caption: str
    svg: Markup
    legend: Sequence[tuple[str, int, str]]


def draw_chart(
    title: str,
    lines: Sequence[Line],
    caption: str,
    x_label: str = "epoch",
    y_range: tuple[float, float] | None = None,
    guide: float | None = None,
) -> Chart | None:
    """Draw lines over epochs or bandwidths; None if no line has a point.

    Args:
        title: of the chart.
        lines: with finite values.
        caption: what is shown, and which way is good.
        x_label: "epoch" has ticks at whole numbers only.
        y_range: limits of the y axis; None: from the values.
        guide: a level to compare with, drawn as a dotted line.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [(n, line) for n, line in enumerate(lines) if line.points]
    if not shown:
        return None
    legend: list[tuple[str, int, str]] = []
    tooltips: dict[str, list[str]] = {}
    with rc_context(SETTINGS):
        figure = Figure(SIZE)
        axes = figure.add_axes(AREA)
        for number, line in shown:
            index = number if line.colour is None else line.colour
            dash = DASHES[(index // COLOURS + line.dashed) % len(DASHES)]
            legend.append((line.name, index % COLOURS, dash))
            colour, name = f"#c0de{index % COLOURS:02}", f"line-{number}"
            tooltips[name] = _draw(axes, line, colour, dash, name)
        if guide is not None:
            axes.axhline(guide, color=GUIDE, linewidth=0.8, linestyle="dotted", clip_on=False)
        if y_range is not None:
            axes.set_ylim(y_range)
        elif all(y >= 0 for _, line in shown for _, y in line.points):
            axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(
            MaxNLocator(6, steps=[1, 2, 5, 10], integer=x_label == "epoch", min_n_ticks=1)
        )
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.tick_params(length=0)
        axes.grid(axis="y", color=GRID, linewidth=0.8, clip_on=False)
        axes.spines[:].set_visible(False)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return Chart(capitalised(title), caption, _inline(file.getvalue(), tooltips), legend)


def _draw(axes: Any, line: Line, colour: str, dash: str, name: str) -> list[str]:
    """Draw a line with its intervals; return the tooltips of its points, if they are marked."""
    for (x, _), (low, high) in zip(line.points, line.bounds, strict=False):
        if low is not None:
            axes.plot([x, x], [low, high], color=colour, linewidth=1, alpha=0.6, clip_on=False)
    marker = "o" if len(line.points) <= MAX_MARKED else ""
    xs, ys = zip(*line.points, strict=True)
    axes.plot(
        xs, ys, color=colour, linestyle=dash, linewidth=1.6, marker=marker, markersize=3.5,
        clip_on=False, gid=name,
    )  # fmt: skip
    return [f"{line.name} at {x:g}: {y:.4g}".strip() for x, y in line.points] if marker else []


def _inline(svg: str, tooltips: dict[str, list[str]]) -> Markup:
    """Return the element of an SVG file for a page with others: no ids but those of the marks,
    which are named by their content, no fonts, no style sheet, and a tooltip on each mark."""
    for prefix, url in (("", SVG[1:-1]), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, url)
    root = ElementTree.fromstring(svg)
    del root.attrib["width"], root.attrib["height"]
    for element in list(root.iter()):
        for style in element.findall(f"{SVG}style"):
            element.remove(style)
        if element.tag == f"{SVG}g":
            texts = tooltips.get(element.attrib.pop("id", ""), ())
            for mark, text in zip(element.iter(f"{SVG}use"), texts, strict=False):
                ElementTree.SubElement(mark, f"{SVG}title").text = text
        element.text, element.tail = (element.text or "").strip(), ""
    text = ElementTree.tostring(root, "unicode")
    text = re.sub(r"font-family: [^;\"]*(; )?", "", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return Markup(text)
