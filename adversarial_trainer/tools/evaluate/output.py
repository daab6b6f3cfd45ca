"""An evaluation as text for a terminal, as JSON and CSV files, and as a plot."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from adversarial_trainer.audio import replacing
from adversarial_trainer.models.pretrained import Codec

from .results import CODEBOOK_USE, Results

JSON = "evaluation.json"
CSV = "evaluation.csv"
PLOT = "rate_distortion.png"


def to_text(results: Results) -> str:
    """Return the rate-distortion table and that of codebook use."""
    measured = any(row.measured is not None for row in results.rows)
    head = ["system", "codebooks", "kb/s", *(["measured"] if measured else [])]
    measures = results.metrics.values()
    lines = [
        head + [f"{measure.title} {measure.arrow}" for measure in measures],
        [""] * len(head) + [measure.unit for measure in measures],
    ]
    for row in results.rows:
        line = [row.system, str(row.codebooks or "–"), f"{row.bandwidth:.2f}"]
        if measured:
            line.append(_number(row.measured, 2))
        lines.append([*line, *(row.metrics[name].format(3) for name in results.metrics)])
    text = [*align(lines), "Mean over files ± its 95 % confidence interval."]
    lines = [["codebooks", "kb/s", "usage", "perplexity", "efficiency", "entropy kb/s"]]
    for row in results.rows:
        if row.usage is not None:
            cells = [_number(row.usage, 3), _number(row.perplexity, 1)]
            cells += [_number(row.bitrate_efficiency, 3), _number(row.entropy_bandwidth, 2)]
            lines.append([str(row.codebooks), f"{row.bandwidth:.2f}", *cells])
    if len(lines) > 1:
        text += ["", *align(lines)]
    return "\n".join(text)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def align(lines: Sequence[Sequence[str]], side: Callable[[str, int], str] = str.rjust) -> list[str]:
    """Return the lines of a table, columns aligned to the right but for the first."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [[line[0].ljust(widths[0]), *map(side, line[1:], widths[1:])] for line in lines]
    return ["  ".join(row).rstrip() for row in rows]


def describe_model(codec: Codec, source: str) -> dict[str, Any]:
    """Return `model` of evaluation.json; `source` says where the codec is from."""
    facts = {key: codec.info.get(key) for key in ("signature", "epoch", "commit")}
    sizes = {"sample_rate": codec.model.sample_rate, "channels": codec.model.channels}
    return {"source": source, "hash": codec.hash, **facts, **sizes}


def describe_data(cfg: DictConfig) -> str:
    """Return where the files of a run's evaluate stage are from, in words."""
    dset = cfg.dset
    source = dset.stages.evaluate or dset.path or dset.manifest or "the demo corpus"
    return f"evaluate files of {source}"


def write_results(results: Results, folder: Path, model: Mapping[str, Any], source: str) -> None:
    """Write evaluation.json, evaluation.csv and rate_distortion.png into `folder`, each of them
    atomically. Arguments as for `Results.to_json`; OSError where they cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    values = results.to_json(model, source)
    with replacing(folder / JSON) as path:
        text = json.dumps(values, indent=1, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    with replacing(folder / CSV) as path, open(path, "w", newline="", encoding="utf-8") as file:
        rows = [_csv_row(row) for row in values["rows"]]
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with replacing(folder / PLOT) as path:
        draw_rate_distortion(results, path)


def _csv_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a row by column; None is written as an empty cell."""
    cells = {key: row[key] for key in ("system", "codebooks", "bandwidth", "measured")}
    for name, found in row["metrics"].items():
        cells |= {name: found["mean"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
        cells[f"{name}_files"] = found["count"]
    return cells | {key: row[key] for key in CODEBOOK_USE}


def draw_rate_distortion(results: Results, path: Path) -> None:
    """Write a PNG with a panel for each metric, a line for each system, and intervals."""
    from matplotlib.figure import Figure

    figure = Figure((4 * len(results.metrics), 3), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(results.metrics), squeeze=False)[0]
    for (name, measure), axes in zip(results.metrics.items(), panels, strict=True):
        for system in results.systems:
            found = [(row.rate, row.metrics[name]) for row in results.rows_of(system)]
            found = [(rate, value) for rate, value in found if value.mean is not None]
            axes.errorbar(
                [rate for rate, _ in found],
                [value.mean for _, value in found],
                yerr=[value.half_width or 0.0 for _, value in found],
                label=system,
                marker="o",
                capsize=3,
            )
        axes.set(title=f"{measure.title} {measure.arrow}", xlabel="kb/s", ylabel=measure.unit)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, format="png")
