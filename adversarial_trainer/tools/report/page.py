"""Pages of one run, and of several compared, by the templates beside this file."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from adversarial_trainer.audio import replacing
from adversarial_trainer.tools.evaluate.estimates import Estimate
from adversarial_trainer.tools.evaluate.results import Measure

from . import figures
from .listening import CAPTION, MAX_FILES, Listening, make_players
from .names import Meaning, meaning
from .run import History, Run, rate_of, read_run

NAME = "report.html"
FOLDER = Path(__file__).parent

# Keys of .hydra/config.yaml that may differ without a difference between runs.
NOT_COMPARED = ("dora.", "slurm.", "hydra.")


def write_report(folder: Path, out: Path | None = None, history: History | None = None) -> Path:
    """Write the page of the run in `folder`, by default into it; atomic.

    Args:
        history: instead of history.json, which lags behind while an epoch runs.

    Raises:
        OSError: it cannot be written.
    """
    run = read_run(folder, history)
    listening = _listening([(name, _titled(found)) for name, found in run.samples.items()])
    text = _render("run.html.j2", run=run, runs={"": run}, listening=listening, missing=run.missing)
    return _write(text, out or folder / NAME)


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write one page of several runs, which keep their order and their colours; atomic.

    Raises OSError if it cannot be written.
    """
    runs: dict[str, Run] = {}
    for run in map(read_run, folders):
        runs[str(run.folder) if run.signature in runs else run.signature] = run
    made = [f"{name} at epoch {run.samples_epoch}" for name, run in runs.items() if run.samples]
    text = _render(
        "comparison.html.j2",
        runs=runs,
        listening=_listening(list(_shared(runs))),
        made=f"Made by {', '.join(made)}.",
        differences=_differences(runs),
        last_metrics={stage: _last_metrics(runs, stage) for stage in ("evaluate", "valid")},
        missing=[f"{name}: {text}" for name, run in runs.items() for text in run.missing],
    )
    return _write(text, out)


def _write(text: str, out: Path) -> Path:
    # Names of files may hold what is neither UTF-8 nor allowed in HTML.
    text = text.replace("\0", "\\0")
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return out


def _render(template: str, **values: Any) -> str:
    """Return a page that loads nothing and runs no script but its own."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for format_value in (number, interval, millions, duration, titled):
        environment.filters[format_value.__name__] = format_value
    style, script = (
        (FOLDER / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
    )
    digest = hashlib.sha256(script.encode()).digest()
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        script_digest=Markup(base64.b64encode(digest).decode()),
        written=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        spectrograms=CAPTION,
        figures=figures,
        meaning=meaning,
        **values,
    )


def _listening(rows: Sequence[tuple[str, Mapping[str, Path]]]) -> Listening:
    """Return players of the first files."""
    names = list(dict.fromkeys(name for name, _ in rows))
    listening = make_players(row for row in rows if row[0] in names[:MAX_FILES])
    if len(names) > MAX_FILES:
        listening.remarks.append(f"{len(names) - MAX_FILES} more files are in the run's folder.")
    return listening


def _titled(versions: Mapping[str, Path], run: str = "") -> dict[str, Path]:
    """Return the versions of a file by title: "1.50kbps" becomes "1.50 kb/s"."""
    return {f"{run}{key.replace('kbps', ' kb/s')}": path for key, path in versions.items()}


def _shared(runs: Mapping[str, Run]) -> Iterator[tuple[str, dict[str, Path]]]:
    """Yield (file, versions) for each bandwidth at which at least two runs have the file: the
    original and those runs. Without any such bandwidth: each run's highest."""
    for file in dict.fromkeys(name for run in runs.values() for name in run.samples):
        having = {name: run.samples[file] for name, run in runs.items() if file in run.samples}
        if len(having) < 2:
            continue
        originals = [found["original"] for found in having.values() if "original" in found]
        first = {"original": originals[0]} if originals else {}
        rates = dict.fromkeys(v for found in having.values() for v in found if v != "original")
        rows = []
        for rate in sorted(rates, key=rate_of):
            rows.append({name: {rate: f[rate]} for name, f in having.items() if rate in f})
        rows = [row for row in rows if len(row) > 1]
        if not rows:
            rows = [{name: dict([[*found.items()][-1]]) for name, found in having.items()}]
        for row in rows:
            versions = [_titled(found, f"{name}, ") for name, found in row.items()]
            yield file, first | {title: path for v in versions for title, path in v.items()}


def _differences(runs: Mapping[str, Run]) -> list[tuple[str, list[str]]]:
    """Return (key, value in each run) where configurations differ; unreadable ones are no
    difference."""
    known = [run.config for run in runs.values() if run.config]
    found = []
    for key in dict.fromkeys(key for config in known for key in config):
        texts = [_text(config[key]) if key in config else "–" for config in known]
        if len(set(texts)) > 1 and not key.startswith(NOT_COMPARED):
            values = [run.config.get(key, "–") for run in runs.values()]
            found.append((key, [_text(value) for value in values]))
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _last_metrics(runs: Mapping[str, Run], stage: str) -> list[tuple[Meaning, list[float | None]]]:
    """Return (words, last value of each run) of the metrics of a stage."""
    last = [run.last(stage) for run in runs.values()]
    return [
        (meaning(stage, name), [metrics.get(name) for metrics in last])
        for name in dict.fromkeys(name for metrics in last for name in metrics)
        if "/" not in name and name != "duration"
    ]


def number(value: float | None, digits: int = 3) -> str:
    """Return a short form of a number; a dash for none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1e4 and value == int(value) else f"{value:.{digits}g}"


def interval(value: Estimate | None) -> str:
    """Return a mean with half of its confidence interval."""
    if value is None or math.isnan(value.mean):
        return "–"
    known = not math.isnan(value.half_width)
    return f"{value.mean:.2f} ± {value.half_width:.2f}" if known else f"{value.mean:.2f}"


def millions(count: int | None) -> str:
    """Return a short form of a number of parameters; a dash for none."""
    if count is None:
        return "–"
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def titled(words: Meaning | Measure) -> str:
    """Return a title with its unit."""
    return f"{words.title}, {words.unit}" if words.unit else words.title
