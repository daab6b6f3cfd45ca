"""The page of one run."""

from __future__ import annotations

import time
from typing import Any

from . import curves, quality
from .html import document, duration, esc, number, table
from .listening import CAPTION, MAX_FILES, Listening
from .run import Run

KEYS = (
    "<p>Click a spectrogram to hear it from there. While one plays, <kbd>1</kbd> to <kbd>9</kbd> "
    "go to another version of the file at the same moment.</p>\n"
)


def page(run: Run) -> str:
    """HTML."""
    sound = listen(run, Listening())
    return document(
        f"Run {run.signature}",
        _heading(run),
        [
            ("listen", "Listen", sound),
            ("rates", "Rate and distortion", _rates(run)),
            ("losses", "Training", curves.losses(run)),
            ("gan", "GAN balance", curves.balance(run)),
            ("codebooks", "Codebooks", quality.codebook_table(run) + curves.codebooks(run)),
            ("progress", "Progress", curves.progress(run)),
            ("config", "Configuration", _config(run)),
        ],
    )


def _heading(run: Run) -> str:
    done = f"{len(run.history)}" + (f" of {run.epochs}" if run.epochs else "")
    facts = [("epochs", done), *quality.last_facts(run), *_provenance(run)]
    told = "".join(f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>" for name, value in facts)
    return (
        f"<h1>Run {esc(run.signature)}</h1>\n<p><code>{esc(command(run))}</code></p>\n"
        f"<dl class=facts>{told}</dl>\n{missing([run])}"
        f"<p class=caption>Written {stamp()} from {esc(run.folder)}</p>\n"
    )


def command(run: Run) -> str:
    """What was asked for."""
    return f"dora run {' '.join(run.overrides)}".strip()


def stamp() -> str:
    """Now."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z")


def missing(runs: list[Run]) -> str:
    """What is not there, or damaged."""
    said = [
        f"<li>{esc(f'{run.signature}: ' if len(runs) > 1 else '')}{esc(text)}</li>"
        for run in runs
        for text in run.missing
    ]
    if not said:
        return ""
    return f"<div class=missing>Not in this page:<ul>{''.join(said)}</ul></div>\n"


def parameters(run: Run) -> dict[str, int]:
    """Counts by module."""
    counts = run.provenance.get("parameters")
    items = counts.items() if isinstance(counts, dict) else ()
    return {str(name): count for name, count in items if isinstance(count, int)}


def starts(run: Run) -> list[dict[str, Any]]:
    """When, where and from which commit the run was started and went on."""
    found = run.provenance.get("starts")
    return [start for start in found if isinstance(start, dict)] if isinstance(found, list) else []


def commit(run: Run) -> str | None:
    """Of its last start, with a + where files differed from it."""
    for start in reversed(starts(run)):
        if isinstance(start.get("commit"), str):
            return start["commit"][:12] + ("+" if start.get("dirty") else "")
    return None


def _provenance(run: Run) -> list[tuple[str, str]]:
    facts = [(f"{name} parameters", number_of(n)) for name, n in parameters(run).items()]
    total = sum(m.get("duration", 0.0) for epoch in run.history for m in epoch.values())
    if total:
        facts.append(("time", duration(total)))
    if sha := commit(run):
        facts.append(("commit", sha))
    if starts(run):
        facts.append(("started", str(starts(run)[0].get("time"))))
    return facts


def number_of(count: int) -> str:
    """Shortly."""
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"


def listen(run: Run, listening: Listening) -> str:
    """Players of each file: the original and each bandwidth."""
    if not run.samples:
        return ""
    parts = [KEYS]
    for sample in run.samples[:MAX_FILES]:
        cells = [
            listening.player(path, title(version), f"{sample.name}, {title(version)}")
            for version, path in sample.versions.items()
        ]
        if any(cells):
            parts.append(
                f"<h3>{esc(sample.name)}</h3>\n<div class=versions>{''.join(cells)}</div>\n"
            )
    remarks = listening.remarks()
    if len(run.samples) > MAX_FILES:
        remarks.append(f"{len(run.samples) - MAX_FILES} more files are in the run's folder.")
    caption = f"Made at epoch {run.samples_epoch}. {CAPTION} {' '.join(remarks)}"
    return "".join(parts) + quality.placeholder(caption)


def title(version: str) -> str:
    """Of a sample's version: `1.50kbps` -> `1.5 kb/s`."""
    rate = version.removesuffix("kbps")
    return "original" if version == rate else f"{rate} kb/s"


def _rates(run: Run) -> str:
    by_epoch = quality.over_epochs({"": run})
    if run.evaluation is None:
        return by_epoch
    return (
        quality.placeholder(f"Evaluated at epoch {run.evaluation_epoch}.")
        + quality.rates_table(run.evaluation)
        + quality.curves({"this run": run.evaluation})
        + by_epoch
    )


def _config(run: Run) -> str:
    parts = []
    if run.overrides:
        pairs = [override.partition("=")[::2] for override in run.overrides]
        parts += ["<h3>What differs from the defaults</h3>\n", table(["key", "value"], pairs, 2)]
    if starts(run):
        keys = ["time", "epoch", "commit", "dirty", "version", "torch", "device", "processes"]
        rows = [[start.get(key, "–") for key in keys] for start in starts(run)]
        parts += ["<h3>Starts</h3>\n", table(keys, rows, len(keys))]
    if parameters(run):
        rows = [[name, f"{n:,}", number(n * 4 / 2**20)] for name, n in parameters(run).items()]
        parts += ["<h3>Sizes</h3>\n", table(["module", "parameters", "MiB in float32"], rows)]
    if run.config_text:
        parts.append(
            f"<details><summary>The whole configuration</summary><pre>{esc(run.config_text)}</pre>"
            "</details>\n"
        )
    return "".join(parts)
