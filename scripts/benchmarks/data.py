"""Segments of 1 s that one core reads, against AudioCraft's way; and batches of the whole loader.

`plain` (tests/plain/data.py) opens a file for each segment and computes the filter anew. Files are
made for this, and read from memory after the first time.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import torch
from plain.data import PlainSegments

from adversarial_trainer import audio
from adversarial_trainer.data import AudioMeta, SegmentDataset, TrainBatches

from .timing import Times, in_turn, print_table, summarise

FORMATS = ("wav", "flac", "ogg", "mp3")
RATES = (44_100, 24_000)  # Hz, of files
DURATION = 20.0  # seconds of each file
TARGET = 24_000  # Hz
SEGMENTS = 20  # a measurement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--files", type=int, default=8, help="of each format and rate")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2], help="of the loader")
    parser.add_argument("--batch-size", type=int, default=16)


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each format and rate, and for each number of workers."""
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        kinds = list(itertools.product(RATES, FORMATS))
        paths = {kind: make_files(Path(folder), *kind, args.files) for kind in kinds}
        segments = [_segments(paths[kind], *kind, args.rounds) for kind in kinds]
        print_table(f"1 s segments a second, to {TARGET} Hz mono", segments)
        batches = [_batches(paths[kinds[0]], args, workers) for workers in args.workers]
        print_table("{1}, {0} Hz: the loader as a whole".format(*kinds[0]), batches)
    return segments + batches


def make_files(folder: Path, rate: int, name: str, count: int) -> list[Path]:
    """Tones with noise, about as hard to decode as music."""
    draw = torch.Generator().manual_seed(0)
    times = torch.arange(round(DURATION * rate)) / rate
    paths = [folder / f"{number}_{rate}.{name}" for number in range(count)]
    for number, path in enumerate(paths):
        tones = sum((220 * 1.5**k * times * torch.pi * 2 + number).sin() for k in range(9))
        audio.write(path, 0.05 * tones + 0.02 * torch.randn(1, len(times), generator=draw), rate)
    return paths


def _dataset(paths: list[Path]) -> SegmentDataset:
    return SegmentDataset([AudioMeta(str(path), DURATION, 1) for path in paths], 1.0, TARGET, 1)


def _segments(paths: list[Path], rate: int, name: str, rounds: int) -> dict[str, Any]:
    ours, plain = _dataset(paths), PlainSegments(paths, DURATION, 1.0, TARGET, 1)
    numbers = itertools.count()
    variants = {
        "plain": lambda: [plain[next(numbers)] for _ in range(SEGMENTS)],
        "ours": lambda: [ours[0, next(numbers)] for _ in range(SEGMENTS)],
    }
    times = {k: summarise(v) for k, v in in_turn(variants, rounds).items()}
    row = {key: _per_second(values, SEGMENTS) for key, values in times.items()}
    faster = times["plain"].median / times["ours"].median
    return {"files": f"{name} {rate}", **row, "ours over plain": f"{faster:.1f}"}


def _batches(paths: list[Path], args: argparse.Namespace, workers: int) -> dict[str, Any]:
    """What comes from the loader when nobody else needs the cores."""
    batches = TrainBatches(_dataset(paths), args.batch_size, 10**6, num_workers=workers)
    stream, count = iter(batches), 10 + 10 * workers
    for _ in range(2 + 4 * workers):  # the workers' start, and what they have read ahead
        next(stream)
    read = {"": lambda: [next(stream) for _ in range(count)]}
    (seconds,) = in_turn(read, args.rounds, warmup=0).values()
    batches.close()
    each = _per_second(summarise(seconds), count)
    return {"workers": workers, f"batches of {args.batch_size} a second": each}


def _per_second(times: Times, count: int) -> str:
    """Median and quartiles, the other way round."""
    return "{:.0f} [{:.0f}, {:.0f}]".format(
        *(1000 * count / ms for ms in (times.median, times.high, times.low))
    )
