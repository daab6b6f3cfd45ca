"""Pages of one run, and of several compared."""

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
from adversarial_trainer.tools.evaluate.results import CODEBOOK_USE, OF_CODEBOOKS, Results

from . import figures
from .charts import Chart
from .listening import CAPTION, MAX_FILES, make_players
from .names import meaning
from .run import History, Run, read_run

NAME = "report.html"
FOLDER = Path(__file__).parent

# Keys of .hydra/config.yaml that may differ without a difference between runs.
NOT_COMPARED = ("dora.", "slurm.", "hydra.")
START_KEYS = ("time", "epoch", "commit", "dirty", "version", "torch", "device", "processes")
Sections = Sequence[tuple[str, str, str]]


def write_report(folder: Path, out: Path | None = None, history: History | None = None) -> Path:
    """Write the page of the run in `folder`, by default into it; atomic.

    Args:
        history: instead of history.json, which lags behind while an epoch runs.

    Raises:
        OSError: it cannot be written.
    """
    return _write(run_page(read_run(folder, history)), out or folder / NAME)


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write one page of several runs; atomic. OSError if it cannot be written."""
    return _write(comparison_page([read_run(folder) for folder in folders]), out)


def _write(text: str, out: Path) -> Path:
    # Names of files may hold what is neither UTF-8 nor allowed in HTML.
    text = text.replace("\0", "\\0")
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return out


def run_page(run: Run) -> str:
    """Return the HTML of the page of a run."""
    environment = _environment()
    parts: Any = environment.get_template("parts.html.j2").module
    runs = {"": run}
    facts = [("epochs", run.progress)]
    for name, value in run.last("evaluate").items():
        meant = meaning("evaluate", name)
        if meant.group == "quality" and "/" not in name:
            facts.append((_with_unit(meant.title, meant.unit), number(value)))
    facts += [(f"{name} parameters", millions(n)) for name, n in run.parameters.items()]
    facts += [("time", duration(run.seconds))] if run.seconds else []
    facts += [("commit", run.commit)] if run.commit else []
    facts += [("started", str(run.starts[0].get("time")))] if run.starts else []
    written = f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')} from {run.folder}"
    heading = parts.heading(f"Run {run.signature}", written, [run], run.command, facts)

    rows = [(name, _titled(versions)) for name, versions in run.samples.items()]
    sections = [
        ("listen", "Listen", _listening(parts, rows, f"Made at epoch {run.samples_epoch}.")),
        ("rates", "Rate and distortion", _rates(parts, run)),
        *_training(parts, runs, _codebook_table(parts, run)),
        ("config", "Configuration", _configuration(parts, run)),
    ]
    return _document(environment, f"Run {run.signature}", heading, sections)


def comparison_page(runs: Sequence[Run]) -> str:
    """Return the HTML of a page that compares runs, which keep their order and their colours."""
    environment = _environment()
    parts: Any = environment.get_template("parts.html.j2").module
    named: dict[str, Run] = {}
    for run in runs:
        named[str(run.folder) if run.signature in named else run.signature] = run
    written = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    heading = parts.heading(f"{len(runs)} runs compared", written, runs)
    epochs = ", ".join(f"{k} at epoch {r.samples_epoch}" for k, r in named.items() if r.samples)
    rates = figures.rate_distortion(named) + figures.quality_by_epoch(named)
    sections = [
        ("runs", "Runs", _run_table(parts, named)),
        ("differences", "What differs", _differences(parts, named)),
        ("metrics", "Last metrics", _last_metrics(parts, named)),
        ("rates", "Rate and distortion", parts.charts(rates)),
        ("listen", "Listen", _listening(parts, list(_shared(named)), f"Made by {epochs}.")),
        *_training(parts, named),
    ]
    return _document(environment, f"Runs {', '.join(named)}", heading, sections)


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _document(environment: Environment, title: str, heading: str, sections: Sections) -> str:
    """Return a whole page, which loads nothing and runs no script but its own; sections without
    content are left out."""
    style, script = (
        (FOLDER / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        policy=Markup(policy),
        style=Markup(style),
        script=Markup(script),
        heading=heading,
        sections=[section for section in sections if section[2].strip()],
    )


def _training(parts: Any, runs: Mapping[str, Run], codebook_table: str = "") -> Sections:
    """Return the sections with charts of training."""
    codebooks = parts.charts(figures.numbers_of(runs, "codebooks"))
    return [
        ("losses", "Training", parts.charts(figures.numbers_of(runs, "loss", "other"))),
        ("gan", "GAN balance", parts.charts(figures.numbers_of(runs, "gan", "gradient"))),
        ("codebooks", "Codebooks", codebook_table + codebooks),
        ("progress", "Progress", parts.charts(figures.numbers_of(runs, "progress"))),
    ]


def _listening(parts: Any, rows: Sequence[tuple[str, Mapping[str, Path]]], made: str) -> str:
    """Return players of the first files."""
    names = list(dict.fromkeys(name for name, _ in rows))
    listening = make_players(row for row in rows if row[0] in names[:MAX_FILES])
    if len(names) > MAX_FILES:
        listening.remarks.append(f"{len(names) - MAX_FILES} more files are in the run's folder.")
    return parts.listening(listening.rows, " ".join([made, CAPTION, *listening.remarks]))


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
        for rate in sorted(rates, key=lambda rate: float(rate.removesuffix("kbps"))):
            rows.append({name: {rate: f[rate]} for name, f in having.items() if rate in f})
        rows = [row for row in rows if len(row) > 1]
        if not rows:
            rows = [{name: dict([[*found.items()][-1]]) for name, found in having.items()}]
        for row in rows:
            versions = [_titled(found, f"{name}, ") for name, found in row.items()]
            yield file, first | {title: path for v in versions for title, path in v.items()}


def _rates(parts: Any, run: Run) -> str:
    """Return table and curves of the evaluations of a run."""
    by_epoch: list[Chart] = figures.quality_by_epoch({"": run})
    if run.evaluation is None:
        return parts.charts(by_epoch)
    curves = figures.rate_distortion({"this run": run})
    table = _rate_table(parts, run.evaluation, f"Evaluated at epoch {run.evaluation_epoch}. ")
    return table + parts.charts([*curves, *by_epoch])


def _rate_table(parts: Any, evaluation: Results, before: str) -> str:
    """Return the table with a row for each system and bandwidth."""
    header = ["system", "kb/s", "measured", "codebooks"]
    for measure in evaluation.measures.values():
        arrow = "↑" if measure.higher_is_better else "↓"
        header.append(f"{_with_unit(measure.title, measure.unit)} {arrow}")
    use = [key for key in CODEBOOK_USE if any(key in row.use for row in evaluation.rows)]
    for key in use:
        meant = meaning("evaluate", key)
        header.append(
            f"{_with_unit(meant.title, meant.unit)} {'↓' if meant.good == 'lower' else '↑'}"
        )
    rows = [
        [
            row.system.name,
            number(row.system.bandwidth),
            number(row.measured),
            row.system.codebooks or "–",
            *(interval(row.metrics.get(name)) for name in evaluation.measures),
            *(number(row.use.get(key)) for key in use),
        ]
        for row in evaluation.rows
    ]
    caption = (
        f"{before}Means over {len(evaluation.files)} files ({evaluation.seconds:,.0f} s) ± half of "
        "the 95 % confidence interval. ↑: good is higher, ↓: good is lower."
    )
    return parts.table(header, rows, 1, caption)


def _codebook_table(parts: Any, run: Run) -> str:
    """Return the table of each codebook's use in the last evaluation."""
    if run.evaluation is None:
        return ""
    header = ["codebook", "usage", "perplexity", "entropy, bits"]
    rows = [
        [index, *(number(book[key]) for key in OF_CODEBOOKS)]
        for index, book in enumerate(run.evaluation.codebooks)
    ]
    caption = (
        "On the files of the last evaluation: share of codes seen, codes in even use, and bits of "
        "information in a code. Good is higher."
    )
    return parts.table(header, rows, 1, caption)


def _configuration(parts: Any, run: Run) -> str:
    """Return overrides, starts, sizes and the whole configuration."""
    overrides = [override.partition("=")[::2] for override in run.overrides]
    starts = [[start.get(key, "–") for key in START_KEYS] for start in run.starts]
    sizes = [[name, f"{n:,}", number(n * 4 / 2**20)] for name, n in run.parameters.items()]
    size_header = ["module", "parameters", "MiB in float32"]
    return (
        parts.table(["key", "value"], overrides, 2, title="What differs from the defaults")
        + parts.table(START_KEYS, starts, len(START_KEYS), title="Starts")
        + parts.table(size_header, sizes, title="Sizes")
        + parts.configuration(run.config_text)
    )


def _run_table(parts: Any, runs: Mapping[str, Run]) -> str:
    """Return the table of runs."""
    header = ["run", "epochs", "time", "parameters", "commit", "command"]
    rows = []
    for name, run in runs.items():
        size = millions(run.parameters["codec"]) if "codec" in run.parameters else "–"
        time_taken = duration(run.seconds)
        rows.append([name, run.progress, time_taken, size, run.commit or "–", run.command])
    return parts.table(header, rows, len(header))


def _differences(parts: Any, runs: Mapping[str, Run]) -> str:
    """Return the table of keys that are not the same in all configurations."""
    texts = {
        name: {key: v if isinstance(v, str) else json.dumps(v, default=str)
               for key, v in run.config.items()}
        for name, run in runs.items()
    }  # fmt: skip
    compared = [text for text in texts.values() if text]
    rows = []
    for key in dict.fromkeys(key for text in compared for key in text):
        if not key.startswith(NOT_COMPARED) and len({text.get(key) for text in compared}) > 1:
            rows.append([key, *(text.get(key, "–") for text in texts.values())])
    if not rows:
        return parts.note("No key of the configurations differs.")
    return parts.table(["key", *runs], rows, len(runs) + 1)


def _last_metrics(parts: Any, runs: Mapping[str, Run]) -> str:
    """Return tables of the last metrics of each run, side by side."""
    tables = ""
    for stage, where in (("evaluate", "on whole files"), ("valid", "on the validation segments")):
        last = {name: run.last(stage) for name, run in runs.items()}
        rows = []
        for metric in dict.fromkeys(key for metrics in last.values() for key in metrics):
            if "/" not in metric and metric != "duration":
                meant = meaning(stage, metric)
                title = _with_unit(figures.sentence(meant.title), meant.unit)
                rows.append([title, meant.good, *(number(m.get(metric), 4) for m in last.values())])
        caption = f"Of the last epoch of each run in which the stage ran, {where}."
        tables += parts.table([stage, "good is", *runs], rows, 2, caption)
    return tables


def _with_unit(title: str, unit: str) -> str:
    return f"{title}, {unit}" if unit else title


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


def millions(count: int) -> str:
    """Return a short form of a number of parameters."""
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"
