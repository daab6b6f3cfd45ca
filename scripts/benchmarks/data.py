"""Segments of 1 s that one core reads, against AudioCraft's way; and batches of the whole loader.

`plain` (tests/plain/data.py) opens a file for each segment and computes the filter anew;
`--with-av` reads its wav and mp3 through FFmpeg, as AudioCraft does (`pip install av`). Files are
made for this, and read from memory after the first time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain.data import PlainSegments

from adversarial_trainer import audio
from adversarial_trainer.data import AudioMeta, SegmentDataset, TrainBatches

from .timing import Times, in_turn, print_table, summarise

FORMATS = ("wav", "flac", "ogg", "mp3")
DURATION = 20.0  # seconds of each file
TARGET = 24_000
SEGMENTS = 20  # a measurement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rates", type=int, nargs="+", default=[44_100, 24_000], help="of files")
    parser.add_argument("--file-channels", type=int, default=1)
    parser.add_argument("--files", type=int, default=8, help="of each format")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--with-av", action="store_true", help="plain: wav and mp3 by FFmpeg")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2], help="of the loader")
    parser.add_argument("--batch-size", type=int, default=16)


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each format and rate, and for each number of workers."""
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        paths = make_files(Path(folder), args)
        segments = [
            _segments(paths[name, rate], name, rate, args)
            for rate in args.rates
            for name in args.formats
        ]
        title = f"1 s segments a second, to {TARGET} Hz mono, from {args.file_channels} channel(s)"
        print_table(title, segments)
        rows += segments
        first = paths[args.formats[0], args.rates[0]]
        batches = [_batches(first, args, workers) for workers in args.workers]
        print_table(f"{args.formats[0]}, {args.rates[0]} Hz: the loader as a whole", batches)
        return rows + batches


def make_files(folder: Path, args: argparse.Namespace) -> dict[tuple[str, int], list[Path]]:
    """Tones with noise, about as hard to decode as music."""
    draw = torch.Generator().manual_seed(0)
    made: dict[tuple[str, int], list[Path]] = {}
    for rate in args.rates:
        times = torch.arange(round(DURATION * rate)) / rate
        for number in range(args.files):
            tones = sum((220 * 1.5**k * times * torch.pi * 2 + number).sin() for k in range(9))
            noise = torch.randn(args.file_channels, len(times), generator=draw)
            wav = 0.05 * tones + 0.02 * noise
            for name in args.formats:
                path = folder / f"{number}_{rate}.{name}"
                audio.write(path, wav, rate)
                made.setdefault((name, rate), []).append(path)
    return made


def _metas(paths: list[Path]) -> list[AudioMeta]:
    return [AudioMeta(str(path), DURATION, audio.info(path).sample_rate) for path in paths]


def _segments(paths: list[Path], name: str, rate: int, args: argparse.Namespace) -> dict[str, Any]:
    ours = SegmentDataset(_metas(paths), 1.0, TARGET, 1)
    plain = PlainSegments(paths, DURATION, 1.0, TARGET, 1, args.with_av)
    index = 0

    def some(read: Callable[[int], object]) -> Callable[[], None]:
        def call() -> None:
            nonlocal index
            for _ in range(SEGMENTS):
                index += 1
                read(index)

        return call

    variants = {"plain": some(plain.__getitem__), "ours": some(lambda n: ours[0, n])}
    seconds = in_turn(variants, args.rounds, _wall)
    rates = {key: _per_second(summarise(values), SEGMENTS) for key, values in seconds.items()}
    medians = {key: summarise(values).median for key, values in seconds.items()}
    reader = "av" if args.with_av and name in ("wav", "mp3") else "soundfile"
    return {
        "files": f"{name} {rate}",
        f"plain ({'av' if args.with_av else 'soundfile'})": f"{rates['plain']} {reader}",
        "ours": rates["ours"],
        "ours over plain": f"{medians['plain'] / medians['ours']:.1f}",
    }


def _batches(paths: list[Path], args: argparse.Namespace, workers: int) -> dict[str, Any]:
    """What comes from the loader when nobody else needs the cores."""
    data = SegmentDataset(_metas(paths), 1.0, TARGET, 1)
    batches = TrainBatches(data, args.batch_size, 10**6, num_workers=workers)
    stream = iter(batches)
    try:
        for _ in range(2 + 4 * workers):  # the workers' start, and what they have read ahead
            next(stream)
        count = 10 + 10 * workers
        seconds = [_wall(lambda: [next(stream) for _ in range(count)]) for _ in range(args.rounds)]
    finally:
        batches.close()
    each = _per_second(summarise(seconds), count)
    return {"workers": workers, f"batches of {args.batch_size} a second": each}


def _per_second(times: Times, count: int) -> str:
    """Median and quartiles, the other way round."""
    return "{:.0f} [{:.0f}, {:.0f}]".format(
        *(1000 * count / ms for ms in (times.median, times.high, times.low))
    )


def _wall(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
