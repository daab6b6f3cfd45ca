"""Charts of a page. Each function takes runs by name: for a single run it draws the parts of a
number or the stages that measure it, for several a line for each run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from adversarial_trainer.tools.evaluate.results import MODEL

from .charts import Chart, Line, draw_chart
from .names import Meaning, key_of, meaning
from .run import Run

Runs = Mapping[str, Run]

STAGES = ("train", "valid", "evaluate", "generate")


def numbers_of(runs: Runs, *groups: str) -> Iterator[Chart | None]:
    """Yield a chart by update for each number of `groups` (see names.py) that was logged."""
    found: dict[str, Meaning] = {}
    for run in runs.values():
        for stage in STAGES:
            for name in run.names(stage):
                meant = meaning(stage, name)
                if meant.group in groups:
                    found.setdefault(key_of(name), meant)
    if "d_real" in found:
        found.pop("d_fake", None)
        found["d_real"] = found["d_real"]._replace(title="D(real), solid, and D(fake), dashed")
    for key, meant in found.items():
        lines = _lines(runs, key, meant)
        if key == "d_real":
            lines = [
                replace(line, name=f"D({side}) {line.name}", colour=colour, dashed=side == "fake")
                for side in ("real", "fake")
                for colour, line in enumerate(_lines(runs, f"d_{side}", meant))
            ]
        limits = (0.0, 1.0) if meant.unit == "share" else None
        yield draw_chart(meant.title, lines, _caption(key, meant), "update", limits, meant.guide)


def _lines(runs: Runs, key: str, meant: Meaning) -> list[Line]:
    """Return the lines of a number by update.

    Of a single run: its parts in training, else the stages that have it. Of several: a line for
    each, losses in validation where they were measured, all else in training.
    """
    if len(runs) > 1:
        validated = meant.group == "loss" and any(run.curve("valid", key) for run in runs.values())
        stage = "valid" if validated else "train"
        return [Line(title, run.curve(stage, key)) for title, run in runs.items()]
    (run,) = runs.values()
    start = key if key.endswith("_") else f"{key}/"
    parts = [name for name in run.names("train") if name.startswith(start)]
    if parts:
        titles = [name.removeprefix(start) for name in parts]
        if all(title.isdecimal() for title in titles):
            titles = [f"codebook {title}" for title in titles]
        return [Line(t, run.curve("train", name)) for t, name in zip(titles, parts, strict=True)]
    stages = [stage for stage in STAGES if meaning(stage, key).group != "quality"]
    return [Line(stage, run.curve(stage, key)) for stage in stages]


def quality_in_training(runs: Runs) -> Iterator[Chart | None]:
    """Yield a chart for each metric of the evaluations; update 0 is before training."""
    for name in dict.fromkeys(name for run in runs.values() for name in run.names("evaluate")):
        meant = meaning("evaluate", name)
        if "/" in name or meant.group not in ("quality", "other"):
            continue
        lines = []
        for title, run in runs.items():
            start = [(0.0, value) for _, value in run.curve("start", name)[:1]]
            lines.append(Line(title, [*start, *run.curve("evaluate", name)]))
        caption = f"{_caption(name, meant)} Mean over files at the highest bandwidth."
        if any(len(line.points) > 1 for line in lines):
            yield draw_chart(f"{meant.title} in training", lines, caption)


def rate_distortion(runs: Runs) -> Iterator[Chart | None]:
    """Yield a chart against bandwidth for each metric of the newest evaluations.

    Runs have their colours by place, also where one has no evaluation. A baseline is the same for
    all runs of one test set: that of the first run which has it is drawn.
    """
    found = {title: run.evaluation for title, run in runs.items()}
    lines_of = [(title, MODEL, evaluation) for title, evaluation in found.items()]
    evaluations = [evaluation for evaluation in found.values() if evaluation is not None]
    baselines = {system: e for e in reversed(evaluations) for system in e.systems}
    lines_of += [(name, name, e) for name, e in baselines.items() if name != MODEL]
    for name, measure in {k: m for e in evaluations for k, m in e.metrics.items()}.items():
        lines = []
        for title, system, evaluation in lines_of:
            rows = [] if evaluation is None else evaluation.rows_of(system)
            values = [(row.rate, row.metrics[name]) for row in rows if name in row.metrics]
            points = [(rate, v.mean) for rate, v in values if v.mean is not None]
            bounds = [(v.low, v.high) for _, v in values if v.mean is not None]
            lines.append(Line(title, points, bounds))
        unit = f"In {measure.unit}, mean" if measure.unit else "Mean"
        caption = (
            f"{unit} over files with its 95 % confidence interval. "
            f"Good is {measure.good}, and further to the left."
        )
        yield draw_chart(measure.title, lines, caption, "kb/s")


def _caption(key: str, meant: Meaning) -> str:
    """Return the caption of a chart by update: name in history.json, unit, which way is good."""
    name = f"{key}<loss>" if key.endswith("_") else key
    unit = f", in {meant.unit}" if meant.unit not in ("", "share") else ""
    good = f" Good is {meant.good}." if meant.good else ""
    return f"{name}{unit}.{good} {meant.note}".strip()
