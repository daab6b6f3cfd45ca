"""Many recipes, by precision, compilation and batch size, each case in a process of its own.

Within `--minutes`: first each recipe with the first of each option, then what differs from that.
`--out` gets recipes.json and recipes.md after each case; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from adversarial_trainer.audio import replacing

from .recipe import add_common_arguments

ROOT = Path(__file__).resolve().parents[2]
FIRST = ["encodec", "dac_44khz", "mdct_48khz", "vae_44khz_stereo", "bigcodec_16khz"]
KEY = ("recipe", "precision", "compile", "batch size")  # columns that name a case
SETTINGS = ("device", "updates", "peak_tflops", "until_mel", "data", "override")
STARTUP = 15.0  # seconds of a process before it measures
Case = tuple[str, str, str, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    found = sorted(path.stem for path in (ROOT / "config" / "solver").glob("*.yaml"))
    listed = [*FIRST, *(name for name in found if name not in FIRST)]
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--recipes", nargs="+", default=listed, choices=found, metavar="NAME")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bf16"])
    parser.add_argument(
        "--compile", nargs="+", default=["false", "true"], choices=("false", "true")
    )
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[0], help="0: the recipe's")
    parser.add_argument("--minutes", type=float, default=60.0, help="for all cases")
    parser.add_argument("--least", type=float, default=60.0, help="seconds that a case is given")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each case that was run, now or before."""
    end = time.monotonic() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    result = read(args)
    done = {tuple(row[key] for key in KEY) for row in result["rows"]}
    waiting = [case for case in in_order(args) if case not in done]
    write(result, waiting, args.out)
    while waiting and (left := end - time.monotonic()) > 0:
        share = min(left, max(left / len(waiting), args.least))
        case = waiting.pop(0)
        print(f"{describe(case)}: at most {share:.0f} s, {len(waiting)} after it", flush=True)
        row, machine = run_case(case, share, args)
        result["rows"].append(dict(zip(KEY, case, strict=True)) | row)
        result["machine"] = machine or result["machine"]
        write(result, waiting, args.out)
    print((args.out / "recipes.md").read_text())
    return result["rows"]


def in_order(args: argparse.Namespace) -> list[Case]:
    """All cases, those with fewer departures from the first of each option first."""
    options = itertools.product(
        *(enumerate(values) for values in (args.precisions, args.compile, args.batch_sizes))
    )
    ranked = sorted(options, key=lambda option: sum(place for place, _ in option))
    return [
        (recipe, precision, compiled, size)
        for (_, precision), (_, compiled), (_, size) in ranked
        for recipe in args.recipes
    ]


def describe(case: Case) -> str:
    """A case in words."""
    recipe, precision, compiled, size = case
    return f"{recipe}, {precision}, compile={compiled}, batch of {size or 'the recipe'}"


def run_case(case: Case, share: float, args: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """Return what a case measured within `share` seconds, or its error in a line; and the machine,
    None after an error."""
    recipe, precision, compiled, size = case
    path = args.out / "case.json"
    line = ["recipe", "--json", str(path), "--solver", recipe, "--precision", precision]
    line += ["--compile", compiled, "--batch-size", str(size)]
    line += ["--seconds", str(max(0.0, share - STARTUP))]
    for name in SETTINGS[:-1]:
        value = getattr(args, name)
        line += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    cache = f"dset.cache={(args.out / 'cache').resolve()}"
    line += ["--override", cache, *args.override]
    script = ROOT / "scripts" / "benchmark.py"
    try:
        subprocess.run(
            [sys.executable, str(script), *line],
            capture_output=True,
            text=True,
            check=True,
            timeout=share,
        )
        found = json.loads(path.read_text())
    except subprocess.TimeoutExpired:
        return {"error": f"no result in its share of the time, {share:.0f} s"}, None
    except subprocess.CalledProcessError as exc:
        return {"error": error_line(exc.stderr, exc.returncode)}, None
    path.unlink()
    (row,) = found["rows"]
    return row, found["machine"]


def error_line(stderr: str, status: int) -> str:
    """The exception of a process in a line, else what it said last, else how it ended."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b.*: ", line)]
    return (raised or lines or [f"ended with status {status}"])[-1][:300]


def read(args: argparse.Namespace) -> dict[str, Any]:
    """The results so far in `args.out`; an error if they were measured with other settings."""
    settings = {name: getattr(args, name) for name in SETTINGS}
    settings["data"] = args.data and str(args.data)
    path = args.out / "recipes.json"
    if not path.exists():
        return {"machine": {}, "settings": settings, "rows": []}
    result = json.loads(path.read_text())
    for name, value in settings.items():
        if (before := result["settings"][name]) != value:
            sys.exit(
                f"--{name.replace('_', '-')} is {value}, but {path} was measured with {before}: "
                "use that, or another --out."
            )
    return result


def write(result: dict[str, Any], waiting: list[Case], out: Path) -> None:
    """Write recipes.json and recipes.md."""
    not_run = [describe(case) for case in waiting]
    with replacing(out / "recipes.json") as path:
        path.write_text(json.dumps({**result, "not_run": not_run}, indent=2) + "\n")
    rows = result["rows"]
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "error"))
    cells = [[row.get(key) for key in (*columns, "error")] for row in rows]
    table = [[*columns, "error"], ["---"] * (len(columns) + 1), *cells]
    about = {**result["machine"], **result["settings"]}
    lines = ["# Recipes", "", ", ".join(f"{key}: {value}" for key, value in about.items()), ""]
    for row in table:
        shown = ["" if x is None else str(x).replace("|", "\\|") for x in row]
        lines.append(f"| {' | '.join(shown)} |")
    if not_run:
        lines += ["", "Not run, for want of time:", "", *(f"- {text}" for text in not_run)]
    (out / "recipes.md").write_text("\n".join(lines) + "\n")
