"""Compare runs that were trained equally long, as those of the grid `study`: a table and curves.

    python scripts/study.py outputs/xps/* --out outputs/study

Runs whose overrides differ in `seed` alone are one variant. Values are means over its seeds with
95 % confidence intervals (Student's). study.md, study.json and study.png are written into --out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adversarial_trainer.audio import replacing
from adversarial_trainer.tools.evaluate.results import MODEL, Estimate, Measure, estimate
from adversarial_trainer.tools.report.run import Run, find_run_folder, read_run
from adversarial_trainer.training.length import trained_seconds

Variants = dict[str, list[Run]]


def read_variants(sources: Sequence[str]) -> Variants:
    """Return the runs that have an evaluation, by the overrides in which they differ but `seed`."""
    runs = [read_run(find_run_folder(source)) for source in sources]
    for run in runs:
        if run.evaluation is None:
            print(f"{run.folder}: left out, it has no evaluation yet.")
    runs = [run for run in runs if run.evaluation is not None]
    given = [[text for text in run.overrides if not text.startswith("seed=")] for run in runs]
    variants: Variants = {}
    for run, texts in zip(runs, given, strict=True):
        own = [text for text in texts if not all(text in others for others in given)]
        variants.setdefault(" ".join(own) or "all", []).append(run)
    return variants


def measures_of(variants: Variants) -> dict[str, Measure]:
    """Return words for the metrics that the evaluations of all runs have."""
    found = [run.evaluation.metrics for runs in variants.values() for run in runs if run.evaluation]
    return {name: found[0][name] for name in found[0] if all(name in each for each in found)}


def describe(name: str, runs: Sequence[Run], measures: Sequence[str]) -> dict[str, Any]:
    """Return the row of a variant: what it took, and its metrics at the highest bandwidth."""
    last = [run.last("evaluate") for run in runs]
    minutes = [trained_seconds(run.history) / 60 for run in runs]
    updates = [len(run.history) * run.config.get("optim.updates_per_epoch", 1) for run in runs]
    skipped = sum(epoch.get("train", {}).get("bad_steps", 0) for r in runs for epoch in r.history)
    return {
        "variant": name,
        "seeds": len(runs),
        "minutes": statistics.fmean(minutes),
        "updates": statistics.fmean(updates),
        "codes in use": estimate(m.get("usage") for m in last).mean,
        "skipped": int(skipped),
        "judgements": sum(len(run.judgements) for run in runs),
        **{metric: estimate(m.get(metric) for m in last) for metric in measures},
    }


def baselines(variants: Variants, measures: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of Opus, over the files of the first run that has them."""
    for runs in variants.values():
        rows = [r for r in runs[0].evaluation.rows if r.system != MODEL]  # type: ignore[union-attr]
        if rows:
            return [
                {"variant": f"{row.system} {row.rate:.1f} kb/s", "seeds": 1}
                | {name: Estimate(row.metrics[name].mean, None, None, 1) for name in measures}
                for row in rows
            ]
    return []


def table(rows: Sequence[dict[str, Any]], measures: dict[str, Measure]) -> str:
    """Return the table in Markdown; "=" marks what cannot be told from the best in a metric."""
    best = {name: best_of(rows, name, measure) for name, measure in measures.items()}
    heads = ["variant", "seeds", "minutes", "updates", "codes in use", "skipped", "judgements"]
    titles = [f"{m.title} {m.arrow}{f' ({m.unit})' if m.unit else ''}" for m in measures.values()]
    lines = [[*heads, *titles], ["---"] * (len(heads) + len(titles))]
    for row in rows:
        minutes, updates, use = (row.get(key) for key in ("minutes", "updates", "codes in use"))
        cells = [row["variant"], str(row["seeds"])]
        cells += ["" if minutes is None else f"{minutes:.1f}"]
        cells += ["" if updates is None else f"{updates:.0f}"]
        cells += ["" if use is None else f"{use:.0%}"]
        cells += [str(row.get(key, "")) for key in ("skipped", "judgements")]
        for name in measures:
            same = "minutes" in row and overlap(row[name], best[name])
            cells.append(row[name].format(2) + (" =" if same else ""))
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def best_of(rows: Sequence[dict[str, Any]], name: str, measure: Measure) -> Estimate:
    """Return the best mean of a metric among the variants."""
    known = [row[name] for row in rows if "minutes" in row and row[name].mean is not None]
    ranked = sorted(known, key=lambda e: e.mean, reverse=measure.higher_is_better)
    return ranked[0] if ranked else Estimate(None, None, None, 0)


def overlap(one: Estimate, other: Estimate) -> bool:
    """Return whether two intervals overlap: the difference may be of the seeds."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def curve(run: Run, metric: str) -> tuple[list[float], list[float]]:
    """Return minutes of training, and a metric of the evaluation then."""
    done = [run.history[: count + 1] for count in range(len(run.history))]
    points = [(trained_seconds(h) / 60, h[-1].get("evaluate", {}).get(metric)) for h in done]
    known = [(minutes, value) for minutes, value in points if value is not None]
    return [minutes for minutes, _ in known], [value for _, value in known]


def draw(variants: Variants, measures: dict[str, Measure], path: Path) -> None:
    """Draw each metric against minutes of training, a line for each run, a colour a variant."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    colors = colormaps["tab20"]
    figure = Figure(figsize=(4.5 * len(measures), 4 + 0.2 * len(variants)), layout="constrained")
    axes = figure.subplots(1, len(measures), squeeze=False)[0]
    for axis, (metric, measure) in zip(axes, measures.items(), strict=True):
        for number, (name, runs) in enumerate(variants.items()):
            for place, run in enumerate(runs):
                label = name if place == 0 else None
                axis.plot(*curve(run, metric), ".-", c=colors(number % 20), label=label)
        axis.set_title(f"{measure.title}: {measure.good} is better", fontsize=9)
        axis.set_xlabel("minutes of training", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="folders or signatures of runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--by", default="mel", help="metric that the table is sorted by")
    args = parser.parse_args()
    variants = read_variants(args.runs)
    if not variants:
        raise SystemExit("no run has an evaluation yet.")
    measures = measures_of(variants)
    if args.by not in measures:
        raise SystemExit(f"--by {args.by}: all runs have {', '.join(measures) or 'no metric'}.")
    rows = [describe(name, runs, list(measures)) for name, runs in variants.items()]
    sign = -1 if measures[args.by].higher_is_better else 1
    rows.sort(key=lambda row: sign * (row[args.by].mean or 0))
    rows += baselines(variants, list(measures))
    args.out.mkdir(parents=True, exist_ok=True)
    text = table(rows, measures)
    with replacing(args.out / "study.md") as path:
        path.write_text(text + "\n", encoding="utf-8")
    with replacing(args.out / "study.json") as path:
        path.write_text(json.dumps(rows, default=vars, indent=2) + "\n", encoding="utf-8")
    draw(variants, measures, args.out / "study.png")
    print(f"{text}\n\nTable and curves: {args.out}")


if __name__ == "__main__":
    main()
