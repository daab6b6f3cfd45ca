"""The page that compares runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from . import curves, quality, single
from .catalogue import COMMON, LOSSES, meaning
from .charts import Line, chart
from .html import document, duration, esc, number, sentence, table
from .listening import CAPTION, MAX_FILES, Listening
from .run import Run

# Of .hydra/config.yaml, keys that differ for reasons of the machine alone.
_NOT_COMPARED = ("dora.", "slurm.", "hydra.")


def page(runs: list[Run]) -> str:
    """HTML. Runs keep their order, and their colour in all charts."""
    named = _names(runs)
    evaluations = {name: run.evaluation for name, run in named.items()}
    heading = (
        f"<h1>{len(runs)} runs compared</h1>\n{single.missing(runs)}"
        f"<p class=caption>Written {single.stamp()}</p>\n"
    )
    return document(
        f"Runs {', '.join(named)}",
        heading,
        [
            ("runs", "Runs", _runs(named)),
            ("differences", "What differs", differences(named)),
            ("metrics", "Last metrics", _metrics(named)),
            (
                "rates",
                "Rate and distortion",
                quality.curves(evaluations) + quality.over_epochs(named),
            ),
            ("listen", "Listen", _listen(named)),
            ("losses", "Training", _losses(named)),
            ("gan", "GAN balance and codebooks", _balance(named)),
        ],
    )


def _names(runs: list[Run]) -> dict[str, Run]:
    """Signatures; with the folder above where two are the same."""
    named: dict[str, Run] = {}
    for run in runs:
        name = run.signature if run.signature not in named else str(run.folder)
        named[name] = run
    return named


def _runs(runs: Mapping[str, Run]) -> str:
    rows = []
    for name, run in runs.items():
        seconds = sum(m.get("duration", 0.0) for epoch in run.history for m in epoch.values())
        sizes = single.parameters(run)
        rows.append(
            [
                name,
                f"{len(run.history)}" + (f" of {run.epochs}" if run.epochs else ""),
                duration(seconds),
                single.number_of(sizes["codec"]) if "codec" in sizes else "–",
                single.commit(run) or "–",
                single.command(run),
            ]
        )
    return table(["run", "epochs", "time", "parameters", "commit", "command"], rows, left=6)


def differences(runs: Mapping[str, Run]) -> str:
    """Keys of the configurations that are not the same in all runs that have one."""
    configs = [run.config for run in runs.values() if run.config]
    keys = dict.fromkeys(key for config in configs for key in config)
    absent = object()
    rows = []
    for key in keys:
        values = [config.get(key, absent) for config in configs]
        if not key.startswith(_NOT_COMPARED) and any(value != values[0] for value in values):
            rows.append([key, *(_value(run.config, key) for run in runs.values())])
    if not rows:
        return quality.placeholder("No key of the configurations differs.")
    return table(["key", *runs], rows, left=len(runs) + 1)


def _value(config: Mapping[str, object], key: str) -> str:
    value = config.get(key, "–")
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _metrics(runs: Mapping[str, Run]) -> str:
    parts = []
    for stage, told in (("evaluate", "on whole files"), ("valid", "on the validation segments")):
        last = {name: run.last(stage) for name, run in runs.items()}
        rows = []
        for metric in dict.fromkeys(key for metrics in last.values() for key in metrics):
            meant = meaning(stage, metric)
            if "/" in metric or metric == "duration" or meant is None:
                continue
            unit = f", {meant.unit}" if meant.unit else ""
            values = [number(metrics.get(metric), 4) for metrics in last.values()]
            rows.append([f"{meant.title}{unit}", meant.good, *values])
        if rows:
            caption = f"Of the last epoch of each run in which the stage ran, {told}."
            parts.append(table([stage, "good is", *runs], rows, left=2, caption=caption))
    return "".join(parts)


def _losses(runs: Mapping[str, Run]) -> str:
    found = []
    for name, meant in {**LOSSES, "d_loss": COMMON["d_loss"]}.items():
        measured = any(run.curve("valid", name) for run in runs.values())
        stage = "valid" if measured else "train"
        lines = [Line(title, run.curve(stage, name)) for title, run in runs.items()]
        way = f"Good is {meant.good}." if meant.good == "lower" else f"It is {meant.good}."
        where = "in validation" if measured else "in training"
        found.append(chart(name, lines, f"{sentence(meant.title)}, {where}. {way}"))
    return curves.charts(found)


def _balance(runs: Mapping[str, Run]) -> str:
    shown = {
        "d_acc": ("Accuracy of the discriminators", "Mean of all. 0.5 is guessing."),
        "d_real": ("D(real)", "Mean logit on originals. Good is steady, a little above D(fake)."),
        "d_fake": ("D(fake)", "Mean logit on reconstructions. Good is steady."),
        "perplexity": ("Perplexity", "Codes in even use, mean of codebooks. Good is higher."),
        "usage": ("Codes in use", "Share, mean of codebooks. Good is higher."),
        "grad_norm": ("Norm of the codec's gradient", "Before clipping. Good is steady."),
        "bad_steps": ("Updates left out", "An epoch. Good is 0."),
    }
    shares = ("d_acc", "usage")
    return curves.charts(
        chart(
            title,
            [Line(name, run.curve("train", key)) for name, run in runs.items()],
            caption,
            y_range=(0, 1) if key in shares else None,
            guide=0.5 if key == "d_acc" else None,
        )
        for key, (title, caption) in shown.items()
    )


def _listen(runs: Mapping[str, Run]) -> str:
    """The same file at the same bandwidth, run by run."""
    files: dict[str, dict[str, dict[str, Path]]] = {}
    for name, run in runs.items():
        for sample in run.samples:
            files.setdefault(sample.name, {})[name] = sample.versions
    shared = {file: found for file, found in files.items() if len(found) > 1}
    if not shared:
        return ""
    listening = Listening()
    parts = [single.KEYS]
    for file, by_run in list(shared.items())[:MAX_FILES]:
        for row in _rows(by_run):
            cells = [
                listening.player(path, title, f"{file}, {title}") for title, path in row.items()
            ]
            if any(cells):
                inside = "".join(cells)
                parts.append(f"<h3>{esc(file)}</h3>\n<div class=versions>{inside}</div>\n")
    remarks = listening.remarks()
    if len(shared) > MAX_FILES:
        remarks.append(f"{len(shared) - MAX_FILES} more files are in the runs' folders.")
    epochs = ", ".join(
        f"{name} at epoch {r.samples_epoch}" for name, r in runs.items() if r.samples
    )
    caption = f"Made by {epochs}. {CAPTION} {' '.join(remarks)}"
    return "".join(parts) + quality.placeholder(caption)


def _rows(by_run: Mapping[str, Mapping[str, Path]]) -> list[dict[str, Path]]:
    """For each bandwidth that two runs or more have: the original, and those runs.

    Where there is none: each run's highest."""
    rates = list(dict.fromkeys(v for found in by_run.values() for v in found if v != "original"))
    original = next((v["original"] for v in by_run.values() if "original" in v), None)
    first = {} if original is None else {"original": original}
    rows = []
    for rate in sorted(rates, key=lambda r: float(r.removesuffix("kbps"))):
        having = {name: found[rate] for name, found in by_run.items() if rate in found}
        if len(having) > 1:
            cells = {f"{name}, {single.title(rate)}": path for name, path in having.items()}
            rows.append({**first, **cells})
    if rows:
        return rows
    highest = {name: list(found.items())[-1] for name, found in by_run.items()}
    cells = {f"{name}, {single.title(rate)}": path for name, (rate, path) in highest.items()}
    return [{**first, **cells}]
