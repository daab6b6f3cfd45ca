"""Curves of metrics of runs, one panel a metric, as the figures in docs/metrics.md.

    python scripts/plot_history.py --out curves.png --metric train.d_acc --metric valid.msspec \
        healthy=outputs/xps/3f2b9c01 broken=outputs/xps/91d0aa27
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

WIDTH, HEIGHT = 3.2, 2.3  # inches of a panel


def read(run: str) -> tuple[str, list[dict[str, dict[str, float]]]]:
    """The name and the history of `NAME=FOLDER`."""
    name, _, folder = run.rpartition("=")
    path = Path(folder) / "history.json"
    if not path.is_file():
        raise SystemExit(f"{run}: no {path}.")
    return name or Path(folder).name, json.loads(path.read_text())


def curve(history: list[dict[str, dict[str, float]]], metric: str) -> list[tuple[int, float]]:
    """(epoch, value) of `<stage>.<name>`, where it was measured."""
    stage, _, name = metric.partition(".")
    values = ((n, epoch.get(stage, {}).get(name)) for n, epoch in enumerate(history, 1))
    return [(n, value) for n, value in values if value is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", metavar="[NAME=]FOLDER", help="folders of runs")
    parser.add_argument("--metric", action="append", required=True, metavar="STAGE.NAME")
    parser.add_argument("--out", type=Path, required=True, help="a .png or .svg file")
    args = parser.parse_args()
    from matplotlib.figure import Figure

    histories = dict(read(run) for run in args.runs)
    figure = Figure(figsize=(WIDTH * len(args.metric), HEIGHT), layout="constrained")
    axes = figure.subplots(1, len(args.metric), squeeze=False)[0]
    for axis, metric in zip(axes, args.metric, strict=True):
        for name, history in histories.items():
            points = curve(history, metric)
            axis.plot(*zip(*points, strict=True) if points else ([], []), label=name, linewidth=1.5)
        axis.set_title(metric, fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    if len(histories) > 1:
        axes[-1].legend(fontsize=7)
    figure.savefig(args.out, dpi=100)


if __name__ == "__main__":
    main()
