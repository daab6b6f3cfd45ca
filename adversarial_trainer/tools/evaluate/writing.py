"""An evaluation as files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adversarial_trainer.audio import replacing

from .plot import draw_rate_distortion
from .results import CODEBOOK_USE, Results

JSON = "evaluation.json"
CSV = "evaluation.csv"
PLOT = "rate_distortion.png"


def write_results(results: Results, folder: Path, model: Mapping[str, Any], source: str) -> None:
    """Write evaluation.json, evaluation.csv and rate_distortion.png into `folder`; each is there as
    a whole or not at all. Arguments as for `Results.to_json`; OSError where there is no room."""
    folder.mkdir(parents=True, exist_ok=True)
    values = results.to_json(model, source)
    with replacing(folder / JSON) as path:
        text = json.dumps(values, indent=1, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    with replacing(folder / CSV) as path, open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_head(results))
        writer.writerows(_line(row) for row in values["rows"])
    with replacing(folder / PLOT) as path:
        draw_rate_distortion(results, path)


def _head(results: Results) -> list[str]:
    columns = ["system", "codebooks", "bandwidth", "measured"]
    for name in results.metrics:
        columns += [name, f"{name}_low", f"{name}_high", f"{name}_files"]
    return [*columns, *CODEBOOK_USE]


def _line(row: Mapping[str, Any]) -> list[Any]:
    """Empty where there is no value."""
    cells = [row[key] for key in ("system", "codebooks", "bandwidth", "measured")]
    for found in row["metrics"].values():
        cells += [found[key] for key in ("mean", "low", "high", "count")]
    return [*cells, *(row[key] for key in CODEBOOK_USE)]
