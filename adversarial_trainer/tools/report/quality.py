"""Rate and distortion: charts and tables of evaluations."""

from __future__ import annotations

from collections.abc import Mapping

from .catalogue import QUALITY_STAGES, meaning
from .charts import Line, chart
from .curves import charts
from .html import esc, number, table
from .rates import Evaluation, Interval, Row
from .run import Run


def curves(evaluations: Mapping[str, Evaluation | None]) -> str:
    """A chart for each metric, with a line for each run, by name, and for each baseline. Runs have
    their colours by place, also where one has no evaluation."""
    found_in = [evaluation for evaluation in evaluations.values() if evaluation is not None]
    measures = {name: measure for e in found_in for name, measure in e.metrics.items()}
    # A baseline is the same for all runs of one test set: of the first that has it.
    baselines = {s: e for e in reversed(found_in) for s in e.systems if s != "model"}
    found = []
    for name, measure in measures.items():
        lines = [
            _line(title, evaluation, name, "model", colour)
            for colour, (title, evaluation) in enumerate(evaluations.items())
        ]
        lines += [
            _line(system, evaluation, name, system, len(evaluations) + place)
            for place, (system, evaluation) in enumerate(baselines.items())
        ]
        unit = f", {measure.unit}" if measure.unit else ""
        caption = (
            f"{measure.title}{unit}, mean over files with its 95 % confidence interval, against "
            f"bandwidth. Good is {'higher' if measure.higher_is_better else 'lower'}, and further "
            "to the left."
        )
        found.append(chart(measure.title, lines, caption, x_label="kb/s"))
    return charts(found)


def _line(title: str, evaluation: Evaluation | None, metric: str, system: str, colour: int) -> Line:
    """A system's mean by bandwidth; without points where it was not evaluated."""
    rows = [] if evaluation is None else evaluation.rows
    rows = sorted((r for r in rows if r.system == system and metric in r.metrics), key=_rate)
    values = [row.metrics[metric] for row in rows]
    points = [(_rate(row), value.mean) for row, value in zip(rows, values, strict=True)]
    return Line(title, points, [(value.low, value.high) for value in values], colour)


def _rate(row: Row) -> float:
    """What was really used, where that is known."""
    return row.bandwidth if row.measured is None else row.measured


def rates_table(evaluation: Evaluation) -> str:
    """A row for each system and bandwidth."""
    titles = [
        f"{m.title}{f', {m.unit}' if m.unit else ''} {'↑' if m.higher_is_better else '↓'}"
        for m in evaluation.metrics.values()
    ]
    others = {
        "usage": "codes in use ↑",
        "perplexity": "perplexity ↑",
        "bitrate_efficiency": "efficiency ↑",
        "entropy_bandwidth": "entropy-coded, kb/s ↓",
    }
    others = {
        k: t for k, t in others.items() if any(r.others[k] is not None for r in evaluation.rows)
    }
    rows = [
        [
            row.system,
            number(row.bandwidth),
            number(row.measured),
            "–" if row.codebooks is None else row.codebooks,
            *(_interval(row.metrics.get(name)) for name in evaluation.metrics),
            *(number(row.others[name]) for name in others),
        ]
        for system in evaluation.systems
        for row in sorted((r for r in evaluation.rows if r.system == system), key=_rate)
    ]
    header = ["system", "kb/s", "measured", "codebooks", *titles, *others.values()]
    caption = (
        f"Means over {evaluation.files} files ({evaluation.seconds:,.0f} s) ± half of the 95 % "
        "confidence interval. ↑: good is higher, ↓: good is lower."
    )
    return table(header, rows, caption=caption)


def _interval(value: Interval | None) -> str:
    if value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{value.mean:.2f}"
    return f"{value.mean:.2f} ± {(value.high - value.low) / 2:.2f}"


def codebook_table(run: Run) -> str:
    """Each codebook's use on the evaluation's files."""
    if run.evaluation is not None and run.evaluation.codebooks:
        rows = [
            [index, *(number(book[key]) for key in ("usage", "perplexity", "entropy"))]
            for index, book in enumerate(run.evaluation.codebooks)
        ]
    else:
        last, rows = run.last("evaluate"), []
        while f"usage/{len(rows)}" in last:
            keys = [f"{kind}/{len(rows)}" for kind in ("usage", "perplexity", "entropy")]
            rows.append([len(rows), *(number(last.get(key)) for key in keys)])
    if not rows:
        return ""
    caption = (
        "On the files of the last evaluation: share of codes seen, codes in even use, and bits of "
        "information in a code. Good is higher."
    )
    return table(["codebook", "usage", "perplexity", "entropy, bits"], rows, caption=caption)


def over_epochs(runs: Mapping[str, Run]) -> str:
    """Metrics of the evaluate stage by epoch; 0 is before training."""
    names = list(
        dict.fromkeys(n for r in runs.values() for s in QUALITY_STAGES for n in r.names(s))
    )
    found = []
    for name in names:
        meant = meaning("evaluate", name)
        if meant is None or meant.group != "quality" or "/" in name:
            continue
        lines = []
        for title, run in runs.items():
            start = [(0.0, value) for _, value in run.curve("start", name)]
            lines.append(Line(title, [*start, *run.curve("evaluate", name)]))
        if max(len(line.points) for line in lines) > 1:
            unit = f", {meant.unit}" if meant.unit else ""
            caption = (
                f"{meant.title}{unit}, mean over files at the highest bandwidth, at each "
                f"evaluation; epoch 0 is before training. Good is {meant.good}."
            )
            found.append(chart(f"{meant.title} by epoch", lines, caption))
    return charts(found)


def last_facts(run: Run) -> list[tuple[str, str]]:
    """(title, value) of the last evaluation's main metrics."""
    facts = []
    for name, value in run.last("evaluate").items():
        meant = meaning("evaluate", name)
        if meant is not None and meant.group == "quality" and "/" not in name:
            unit = f", {meant.unit}" if meant.unit else ""
            facts.append((f"{meant.title}{unit}", number(value)))
    return facts


def placeholder(text: str) -> str:
    """Where there is nothing to show."""
    return f"<p class=caption>{esc(text)}</p>"
