"""Pages of one run, and of several compared, by the templates beside this file."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from adversarial_trainer.audio import replacing
from adversarial_trainer.registry import format_count
from adversarial_trainer.tools.evaluate.results import CODEBOOK_USE, Measure

from . import figures
from .listening import CAPTION, make_players
from .names import Meaning, capitalised, meaning
from .run import OPUS, History, Run, order_of, rate_of, read_run
from .verdict import verdict

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
    return _write(
        out or folder / NAME,
        "run.html.j2",
        run=run,
        runs={"": run},
        verdict=verdict(run),
        listening=make_players({name: _versions(run, name) for name in run.samples}),
        missing=run.missing,
    )


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write one page of several runs, which keep their order and their colours; atomic.

    Raises OSError if it cannot be written.
    """
    runs: dict[str, Run] = {}
    for run in map(read_run, folders):
        runs[str(run.folder) if run.signature in runs else run.signature] = run
    made = [f"{name} at epoch {run.samples_epoch}" for name, run in runs.items() if run.samples]
    return _write(
        out,
        "comparison.html.j2",
        runs=runs,
        listening=make_players(_shared(runs)),
        made=f"Made by {', '.join(made)}.",
        differences=_differences(runs),
        last_metrics={stage: _last_metrics(runs, stage) for stage in ("evaluate", "valid")},
        missing=[f"{name}: {text}" for name, run in runs.items() for text in run.missing],
        warnings=_warnings(runs),
    )


def _write(out: Path, template: str, **values: Any) -> Path:
    """Write a page that loads nothing and runs no script but its own."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for format_value in (number, titled, capitalised):
        environment.filters[format_value.__name__] = format_value
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    text = environment.get_template(template).render(
        style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=Markup(base64.b64encode(digest).decode()),
        written=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        spectrograms=CAPTION,
        codebook_use=CODEBOOK_USE,
        figures=figures,
        meaning=meaning,
        **values,
    )
    # Names of files may hold what is neither UTF-8 nor allowed in HTML.
    text = text.replace("\0", "\\0")
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return out


def _versions(run: Run, name: str) -> dict[str, Path]:
    """Return the versions of a file, that from before the discriminators ahead of Opus's."""
    versions = dict(run.samples[name])
    if name in run.before:
        versions[f"before the discriminators, epoch {run.before_epoch}"] = run.before[name]
    return dict(sorted(versions.items(), key=lambda item: item[0].startswith(OPUS)))


def _shared(runs: Mapping[str, Run]) -> dict[str, dict[str, Path]]:
    """Return the versions of each file that at least two runs have: the original, at each bandwidth
    the runs beside one another, and Opus."""
    files = {}
    for file in dict.fromkeys(name for run in runs.values() for name in run.samples):
        having = {name: run.samples[file] for name, run in runs.items() if file in run.samples}
        versions: dict[str, Path] = {}
        for key in sorted({key for found in having.values() for key in found}, key=order_of):
            for name, found in having.items():
                if key in found:
                    versions.setdefault(f"{name}, {key}" if rate_of(key) else key, found[key])
        if len(having) > 1:
            files[file] = versions
    return files


def _differences(runs: Mapping[str, Run]) -> list[tuple[str, list[str]]]:
    """Return (key, value in each run) where configurations differ."""
    found = []
    for key in dict.fromkeys(key for run in runs.values() for key in run.config):
        values = [run.config.get(key, "–") for run in runs.values()]
        texts = [x if isinstance(x, str) else json.dumps(x, default=str) for x in values]
        if len(set(texts)) > 1 and not key.startswith(NOT_COMPARED):
            found.append((key, texts))
    return found


def _warnings(runs: Mapping[str, Run]) -> list[str]:
    """Return a sentence where the newest evaluations of runs are not of the same files, or differ
    in what a metric is or on how many of them; none where they can be compared."""
    evaluations = {name: run.evaluation for name, run in runs.items() if run.evaluation is not None}
    shared = [set(evaluation.metrics) for evaluation in evaluations.values()]
    facts, texts = [], []
    for name, evaluation in evaluations.items():
        counts = {
            evaluation.metrics[key].title: evaluation.rows[0].metrics[key].count
            for key in sorted(set.intersection(*shared))
        }
        names = sorted((file["name"], round(file["seconds"], 2)) for file in evaluation.files)
        facts.append((names, counts))
        size = f"{format_count(len(names), 'file')} of {evaluation.seconds:.0f} s"
        told = [size, *(f"{title} on {count}" for title, count in counts.items())]
        texts.append(f"{name} has {', '.join(told)}")
    if all(fact == facts[0] for fact in facts):
        return []
    differ = "The evaluations are of different files or metrics and not to be compared: "
    return [differ + "; ".join(texts) + "."]


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
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1e4 and value == int(value) else f"{value:.{digits}g}"


def titled(words: Meaning | Measure) -> str:
    """Return a title with its unit."""
    return capitalised(f"{words.title}, {words.unit}" if words.unit else words.title)
