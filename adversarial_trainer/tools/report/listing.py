"""Command line that lists runs."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from adversarial_trainer.models.pretrained import is_run, runs_folders
from adversarial_trainer.tools.evaluate.output import align

from .names import HIGHER, meaning
from .page import number
from .run import Run, read_run

MOST = 3  # metrics of a run
AGES = (("min", 60), ("h", 3600), ("days", 86400))  # seconds of each unit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the options of `runs`."""
    parser.description = (
        "List the runs below DORA_DIR (or outputs): their age since they last wrote, "
        "their epochs, the best values of their evaluations (before any, of their validation "
        "losses), their folder and their overrides."
    )
    parser.epilog = "Signatures may be shortened wherever a run is asked for."
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table, return 0."""
    places = runs_folders()
    folders = [path for place in places for path in place.glob("*") if is_run(path)]
    if not folders:
        print(f"no runs in {places[0]}. DORA_DIR says where else they are.")
        return 0
    lines = [["run", "age", "epochs", "best", "folder", "overrides"]]
    for folder in sorted(folders, key=_written, reverse=True):
        found = read_run(folder)
        place = min(os.path.relpath(folder.parent), str(folder.parent), key=len)
        overrides = [text for text in found.overrides if not text.startswith("dora.dir=")]
        lines.append([found.signature, _age(time.time() - _written(folder)),
                      found.progress.replace(" of ", "/"), _best(found), place,
                      " ".join(overrides)])  # fmt: skip
    print("\n".join(align(lines, str.ljust)))
    return 0


def _written(folder: Path) -> float:
    """Return when a run last wrote into its folder."""
    return max(path.stat().st_mtime for path in (folder, *folder.glob("*.*")) if path.exists())


def _age(seconds: float) -> str:
    unit, size = [(unit, size) for unit, size in AGES if size == 60 or seconds >= 2 * size][-1]
    return f"{seconds / size:.0f} {unit}"


def _best(run: Run) -> str:
    """Return the best values of a run: of the first metrics of its evaluations, else of its
    validation losses that are meant to fall."""
    for stage in ("evaluate", "valid"):
        found = []
        for name in run.names(stage):
            meant = meaning(stage, name)
            if "/" not in name and meant.group in ("quality", "loss") and meant.good != "steady":
                values = [value for _, value in run.curve(stage, name)]
                found.append(f"{name} {number((max if meant.good == HIGHER else min)(values))}")
        if found:
            return ", ".join(found[:MOST])
    return "–"
