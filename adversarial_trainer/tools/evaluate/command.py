"""Command line of an evaluation."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adversarial_trainer.data import AudioMeta, FileDataset, configured_metas, load_source
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.builders import to_params
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained import Codec, load_codec
from adversarial_trainer.registry import format_count
from adversarial_trainer.tools.arguments import (
    add_device_argument,
    add_model_argument,
    whole_number,
)
from adversarial_trainer.training.devices import cores, get_device

from .measure import codebook_counts, evaluate
from .opus import Opus
from .output import JSON, describe_data, describe_model, to_text, write_results
from .scoring import get_scorer

# For a model that is no run; as in config.yaml.
DEFAULTS: dict[str, Any] = {
    "metrics": {"sisnr": True, "mel": True, "stft": True},
    "max_duration": 10.0,  # seconds
}
SLOW = [name for name, metric in METRICS.items() if getattr(metric, "slow", False)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the options of `evaluate`."""
    parser.description = (
        "Reconstruct audio files with MODEL and print a rate-distortion table. What no "
        "option says is as in the run's own evaluations."
    )
    parser.epilog = "Metrics, their units and traps, and the keys of the JSON: docs/evaluation.md."
    add_model_argument(parser, "model")
    parser.add_argument(
        "--data", metavar="DIR", help="folder or manifest; default: a run's own evaluate files"
    )
    parser.add_argument(
        "--bandwidths",
        default="all",
        metavar="all|highest|KBPS,...",
        help="all (default): those the model was trained for; or a list in kb/s, as in 1.5,6",
    )
    parser.add_argument(
        "--metrics",
        type=lambda text: text.split(","),
        metavar="NAME,...",
        help=f"of {', '.join(METRICS)}; default: the run's, else {','.join(DEFAULTS['metrics'])}",
    )
    parser.add_argument(
        "--visqol-mode",
        choices=("audio", "speech"),
        help="at 48 or 16 kHz; default: the run's own, else audio",
    )
    parser.add_argument(
        "--baseline", choices=("opus",), help="also evaluate Opus at the same bitrates"
    )
    parser.add_argument("--files", type=whole_number, metavar="N", help="only the first N")
    parser.add_argument(
        "--slow-files",
        type=whole_number,
        metavar="N",
        help=f"{', '.join(SLOW)} on N of the files only, spread evenly; default: the run's, else "
        "all",
    )
    parser.add_argument(
        "--max-duration",
        type=seconds,
        default=argparse.SUPPRESS,  # None is 'all'
        metavar="SECONDS",
        help="of each file, from its start, or 'all' of it; default: the run's, else 10",
    )
    parser.add_argument(
        "--jobs",
        type=whole_number,
        metavar="N",
        help="processes for metrics and baseline; default: one per core where they take long",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="write evaluation.json, .csv and rate_distortion.png there"
    )
    parser.add_argument("--force", action="store_true", help="let --out overwrite them")
    add_device_argument(parser)
    parser.set_defaults(run=run)


def seconds(text: str) -> float | None:
    """Argument type: a number of seconds, or None for 'all'."""
    value = None if text == "all" else float(text)
    if value is not None and not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, or all; got {text!r}")
    return value


def run(args: argparse.Namespace) -> int:
    """Evaluate, print and write. ValueError and OSError for a wrong call."""
    if args.out and os.path.lexists(Path(args.out) / JSON) and not args.force:
        raise FileExistsError(f"--out {args.out!r} has an {JSON}; --force overwrites it")
    device = get_device(args.device)
    codec = load_codec(args.model, device).prepare()
    model = codec.model
    counts = _counts(model, args.bandwidths)
    settings = _settings(codec, args)
    metas, source = _files(codec, args.data)
    length = settings["max_duration"]
    files = FileDataset(metas[: args.files], model.sample_rate, model.channels, length)
    opus = _baseline(model, counts) if args.baseline else None
    scorer = get_scorer(settings, model.sample_rate, opus)
    # Metrics are computed on the CPU while the model runs elsewhere; those that take long, on all
    # of its cores.
    slow = opus or device.type != "cpu" or any(metric.slow for metric in scorer.metrics.values())
    jobs = min(args.jobs or (cores() if slow else 1), len(files))
    results = evaluate(model, files, scorer, counts, next(model.parameters()), jobs)
    count, total = len(results.files), len(files)
    if not count:
        raise ValueError(f"none of {format_count(total, 'file')} could be read")
    missing = f" ({total - count} of {total} could not be read)" if count < total else ""
    part = f", at most {length:g} s of each" if length else ""
    print(f"{format_count(count, 'file')}{missing}, {results.seconds:.1f} s{part}; {source}\n")
    print(to_text(results))
    if args.out:
        write_results(results, Path(args.out), describe_model(codec, args.model), source)
        print(f"\nWritten to {args.out}")
    return 0


def _counts(model: EncodecModel, bandwidths: str) -> list[int]:
    """Return the numbers of codebooks that `--bandwidths` asks for, ascending."""
    if bandwidths in ("all", "highest"):
        return codebook_counts(model, bandwidths)
    try:
        wanted = [float(part) for part in bandwidths.split(",")]
    except ValueError:
        raise ValueError(
            f"--bandwidths {bandwidths!r}: use all, highest, or numbers (kb/s), as in 1.5,6"
        ) from None
    return sorted({model.codebooks_of(bandwidth) for bandwidth in wanted})


def _settings(codec: Codec, args: argparse.Namespace) -> dict[str, Any]:
    """Return `evaluate` of the model's configuration, with what the options say instead."""
    settings = DEFAULTS | to_params(codec.cfg.get("evaluate"))
    if args.metrics:
        settings["metrics"] = dict.fromkeys(args.metrics, True)
    if "max_duration" in args:
        settings["max_duration"] = args.max_duration
    if args.visqol_mode:
        settings["visqol"] = {**settings.get("visqol", {}), "mode": args.visqol_mode}
    if args.slow_files:
        slow = {name: {**settings.get(name, {}), "num_files": args.slow_files} for name in SLOW}
        settings |= slow
    return settings


def _files(codec: Codec, data: str | None) -> tuple[list[AudioMeta], str]:
    """Return the files to evaluate on, and where they are from, in words."""
    if data is not None:
        return load_source(data, name="--data"), data
    if codec.info.get("kind") != "run":
        raise ValueError("--data is needed: only a run has files of its own")
    cache = Path(codec.info["folder"]).parent.parent / "cache"
    metas = configured_metas(codec.cfg.dset, cache)["evaluate"][: codec.cfg.evaluate.num_files]
    if not metas:
        raise ValueError("the run has no files to evaluate on (dset.shares.evaluate=0); use --data")
    return metas, describe_data(codec.cfg)


def _baseline(model: EncodecModel, counts: Sequence[int]) -> Opus | None:
    """Return Opus with those of the model's bitrates that it has; print which it has not."""
    bandwidths, channels = [model.bandwidth_of(n) for n in counts], model.channels
    rates = [rate for rate in bandwidths if Opus.takes(rate, channels)]
    if left_out := [f"{rate:g}" for rate in bandwidths if rate not in rates]:
        print(f"Opus has {Opus.limits(channels)}: {', '.join(left_out)} left out.", file=sys.stderr)
    return Opus(rates) if rates else None
