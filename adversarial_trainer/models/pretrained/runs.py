"""Runs by signature or folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from adversarial_trainer import checkpoint

from .weights import Weights, parse_config, read_json, table_of_weights

CHECKPOINT = "checkpoint.th"
PROVENANCE = "provenance.json"
_PREFIX = "adversary."  # of the discriminators in an `AdversarialLoss`


def runs_folder() -> Path:
    """Return where `dora run` keeps runs, as in config.yaml: `$DORA_DIR/xps` or `outputs/xps`."""
    return Path(os.environ.get("DORA_DIR") or "outputs") / "xps"


def find_run(source: str, runs: Path | None = None) -> Path | None:
    """Return the folder of the run with the folder or signature `source`, or None.

    Args:
        runs: where signatures are looked up; None: `runs_folder()`.
    """
    folders = [Path(source)]
    if re.fullmatch(r"[\w.-]+", source):
        folders.append((runs or runs_folder()) / source)
    for folder in folders:
        if folder.is_dir() and any((folder / name).exists() for name in (CHECKPOINT, ".argv.json")):
            return folder
    return None


def epoch_folders(folder: Path) -> list[tuple[int, Path]]:
    """Return subfolders that are named by an epoch, newest first."""
    try:
        found = [path for path in folder.iterdir() if re.fullmatch("[0-9]{1,9}", path.name)]
    except OSError:
        return []
    return sorted(((int(path.name), path) for path in found), reverse=True)


def starts(folder: Path) -> list[dict[str, Any]]:
    """Return what `provenance.json` says about each start of a run; none if it is unreadable."""
    try:
        found = read_json(folder / PROVENANCE)["starts"]
    except (OSError, ValueError, KeyError):
        return []
    return [start for start in found if isinstance(start, dict)] if isinstance(found, list) else []


def read_run(path: Path) -> Weights:
    """Read a run's checkpoint; its averaged weights if it has them."""
    return from_checkpoint(path, checkpoint.load(path))


def from_checkpoint(path: Path, state: dict) -> Weights:
    """Return the weights of a run's checkpoint that has been loaded from `path`."""
    model = table_of_weights(path, state, "model")
    if not model:
        raise ValueError(f"{path}: not a checkpoint of a codec run, it has no model.")
    model.update(table_of_weights(path, state, "ema", "averages"))
    discriminators = {
        key.removeprefix(_PREFIX): value
        for key, value in table_of_weights(path, state, "adversarial").items()
        if key.startswith(_PREFIX)
    }
    history = state.get("history")
    history = history if isinstance(history, list) else []
    *_, last = [{}, *starts(path.parent)]
    info: dict[str, Any] = {
        "kind": "run",
        "path": path,
        "folder": path.parent,
        "signature": state.get("sig"),
        "epoch": len(history),
        "updates": state.get("updates"),
        "commit": last.get("commit"),
        "metrics": next((e["evaluate"] for e in reversed(history) if "evaluate" in e), {}),
    }
    cfg = parse_config(path, state.get("config_text"))
    return Weights(model, cfg, discriminators or None, info)
