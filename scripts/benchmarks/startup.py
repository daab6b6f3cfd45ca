"""Start-up: commands timed from outside, in turn, against the imports that they cannot do without.

`show` is `dora run solver=encodec show=true`; `update` is `dora run solver=tiny` until the line of
its first update, on the demo's corpus, made before. Threads are one for each process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .timing import in_turn, print_table, summarise

ROOT = Path(__file__).resolve().parents[2]
IMPORTS = "import torch, hydra, dora"
FIRST_UPDATE = "Train | Epoch 1 | 1/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of each command")
    parser.add_argument("--recipe", default="encodec", help="that is shown")
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout, to compare with")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each command."""
    python = sys.executable
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        env = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "PYTHONPATH": str(args.root)}
        dora = [python, "-m", "dora", "-P", "adversarial_trainer", "run", f"dora.dir={folder}"]
        show = [*dora, f"solver={args.recipe}", "show=true"]
        program = [python, "-m", "adversarial_trainer.cli"]

        def command(argv: list[str]) -> Callable[[], object]:
            return lambda: _finish(argv, env, args.root)

        def update() -> None:
            # A run of its own each time, or it would go on with the one before.
            _first_update([*dora, *_short(), f"seed={time.monotonic_ns() % 10**9}"], env, args.root)

        commands = {
            f'python -c "{IMPORTS}"': command([python, "-c", IMPORTS]),
            f"dora run solver={args.recipe} show=true": command(show),
            "adversarial-trainer --help": command([*program, "--help"]),
            "adversarial-trainer doctor --help": command([*program, "doctor", "--help"]),
            "dora run solver=tiny, to the first update": update,
        }
        times = in_turn(commands, args.rounds, _seconds, warmup=1)
    base = summarise(next(iter(times.values()))).median
    rows: list[dict[str, Any]] = [
        {
            "command": name,
            "ms": str(summarise(seconds)),
            "over the imports": f"{summarise(seconds).median / base:.2f}",
        }
        for name, seconds in times.items()
    ]
    print_table(f"from the start of the command to its end, {args.rounds} rounds", rows)
    return rows


def _short() -> list[str]:
    return [
        *("solver=tiny", "logging.every=1", "optim.updates_per_epoch=2", "optim.epochs=1"),
        # Without workers: the command is killed.
        *("dataset.num_workers=0", "valid.every=0", "evaluate.every=0", "generate.every=0"),
    ]


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _finish(argv: list[str], env: dict[str, str], root: Path) -> None:
    subprocess.run(argv, cwd=root, env=env, check=True, stdout=subprocess.DEVNULL)


def _first_update(argv: list[str], env: dict[str, str], root: Path) -> None:
    lines: list[str] = []
    with subprocess.Popen(
        argv, cwd=root, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if FIRST_UPDATE in line:
                process.kill()
                return
    raise RuntimeError(f"{' '.join(argv)} made no update:\n{''.join(lines[-20:])}")
