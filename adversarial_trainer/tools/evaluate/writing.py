"""Files of an evaluation: JSON, CSV and a plot."""

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
