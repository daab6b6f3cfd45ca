"""Line charts as inline SVG, in the colours of the page, with a legend in HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .html import esc, number

COLOURS = 8  # of page.css; then dashed, then dotted
_DASHES = ("", "5 3", "1.5 3")
WIDTH, HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 8, 34
_MOST = 300  # points of a line
_MARKED = 40  # points, up to which each has a mark that tells its value


@dataclass
class Line:
    """Points (x, y), rising in x, with intervals (low, high) where `bounds` has them.

    `colour` is its place among the colours; None: that among the lines.
    """

    name: str
    points: Sequence[tuple[float, float]]
    bounds: Sequence[tuple[float | None, float | None]] = ()
    colour: int | None = None
    dashed: bool = False


def chart(
    title: str,
    lines: Sequence[Line],
    caption: str,
    x_label: str = "epoch",
    y_range: tuple[float, float] | None = None,
    guide: float | None = None,
) -> str:
    """A figure; nothing where there is no point.

    Args:
        caption: what it shows and which way is good.
        y_range: for shares; else from the values.
        guide: a level to compare with.
    """
    drawn = [
        _thin(replace(line, colour=i if line.colour is None else line.colour))
        for i, line in enumerate(lines)
        if line.points
    ]
    if not drawn:
        return ""
    xs = [x for line in drawn for x, _ in line.points] + ([1] if x_label == "epoch" else [])
    ys = [y for line in drawn for _, y in line.points]
    ys += [end for line in drawn for pair in line.bounds for end in pair if end is not None]
    x_axis = _Axis(min(xs), max(xs), _LEFT, WIDTH - _RIGHT, 6, whole=x_label == "epoch")
    low, high = y_range or _widened([*ys, *([] if guide is None else [guide])])
    y_axis = _Axis(low, high, HEIGHT - _BOTTOM, _TOP, 5)
    parts = [_grid(x_axis, y_axis, x_label)]
    if guide is not None:
        y = y_axis(guide)
        parts.append(f'<line class=guide x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
    parts += [_draw(line, x_axis, y_axis) for line in drawn]
    legend = "".join(
        f"<li>{_swatch(line)}{esc(line.name)}</li>" for line in drawn if line.name or len(drawn) > 1
    )
    return (
        f"<figure class=chart><h3>{esc(title)}</h3>\n"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{esc(title)}">\n'
        + "\n".join(parts)
        + f"</svg>\n<ul class=legend>{legend}</ul>"
        f"<figcaption>{esc(caption)}</figcaption></figure>\n"
    )


class _Axis:
    """From values to places in the picture, with ticks at round values."""

    def __init__(
        self, low: float, high: float, start: int, end: int, count: int, whole: bool = False
    ) -> None:
        if low == high:
            low, high = low - 0.5, high + 0.5
        self.low, self.high, self.start, self.end = low, high, start, end
        step = 10 ** math.floor(math.log10((high - low) / count))
        step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= count)
        step = max(1.0, step) if whole else step
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        # Not -0; without the digits that binary fractions add.
        self.ticks = [float(f"{n * step:.10g}") + 0.0 for n in range(first, last + 1)]

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def _widened(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    # What is never negative keeps its zero.
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _thin(line: Line) -> Line:
    """Every n-th point, and the last."""
    every = -(-len(line.points) // _MOST)
    keep = [i for i in range(len(line.points)) if (len(line.points) - 1 - i) % every == 0]
    bounds = [line.bounds[i] for i in keep] if line.bounds else ()
    return replace(line, points=[line.points[i] for i in keep], bounds=bounds)


def _grid(x_axis: _Axis, y_axis: _Axis, x_label: str) -> str:
    parts = []
    for value in y_axis.ticks:
        y = y_axis(value)
        parts.append(f'<line class=grid x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class=end x="{_LEFT - 5}" y="{y + 3.5}">{_tick(value)}</text>')
    for value in x_axis.ticks:
        parts.append(
            f'<text class=middle x="{x_axis(value)}" y="{HEIGHT - _BOTTOM + 14}">'
            f"{_tick(value)}</text>"
        )
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text class=middle x="{middle}" y="{HEIGHT - 5}">{esc(x_label)}</text>')
    return "\n".join(parts)


def _tick(value: float) -> str:
    return f"{value:.0e}" if value and not 1e-4 <= abs(value) < 1e5 else f"{value:.6g}"


def _style(line: Line) -> str:
    index = line.colour or 0
    dash = _DASHES[(index // COLOURS + line.dashed) % len(_DASHES)]
    return f'class="c{index % COLOURS}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _swatch(line: Line) -> str:
    return f'<svg class=swatch viewBox="0 0 18 8"><path {_style(line)} d="M0 4H18"/></svg>'


def _draw(line: Line, x_axis: _Axis, y_axis: _Axis) -> str:
    places = [(x_axis(x), y_axis(y)) for x, y in line.points]
    colour = f"c{(line.colour or 0) % COLOURS}"
    path = "L".join(f"{x} {y}" for x, y in places)
    parts = [f'<path {_style(line)} d="M{path}"/>']
    for (x, _), (low, high) in zip(places, line.bounds, strict=False):
        if low is not None and high is not None:
            parts.append(f'<path class="bar {colour}" d="M{x} {y_axis(low)}V{y_axis(high)}"/>')
    if len(places) <= _MARKED:
        for (x, y), point in zip(places, line.points, strict=True):
            told = esc(f"{line.name} at {number(point[0], 6)}: {number(point[1], 4)}".strip())
            parts.append(
                f'<circle class="{colour}" cx="{x}" cy="{y}" r="2.2"><title>{told}</title></circle>'
            )
    return "\n".join(parts)
