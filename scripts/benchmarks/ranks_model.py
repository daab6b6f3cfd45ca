"""On paper: what the messages of a step take on 8 to 64 GPUs. The formula is in docs/scaling.md."""

from __future__ import annotations

import argparse
from typing import Any

from .timing import print_table

# Name -> GB/s of a ring's slowest link, and seconds for each of its steps.
LINKS = {
    "NVLink, 8 a node + 4 x 200 Gb/s InfiniBand": (80.0, 10e-6),
    "1 x 200 Gb/s InfiniBand": (20.0, 10e-6),
    "1 x 25 Gb/s Ethernet": (2.5, 30e-6),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument(
        "--mb",
        type=float,
        nargs="+",
        default=[59.4, 19.0, 1.9],
        help="messages of a step, in MB: those of `scaling`, the small ones left out",
    )
    parser.add_argument("--small", type=int, default=8, help="number of small messages")
    parser.add_argument(
        "--compute-ms", type=float, nargs="+", default=[100.0, 400.0], help="of a step, on a rank"
    )


def seconds_of(megabytes: float, ranks: int, gigabytes_a_second: float, latency: float) -> float:
    """A ring all-reduce: 2 (N - 1) steps, each of them one N-th of the message."""
    steps = 2 * (ranks - 1)
    return steps * (latency + megabytes * 1e-3 / ranks / gigabytes_a_second)


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each link and number of ranks."""
    rows: list[dict[str, Any]] = []
    for link, (bandwidth, latency) in LINKS.items():
        for ranks in args.ranks:
            messages = [*args.mb, *[0.0] * args.small]
            ms = 1000 * sum(seconds_of(mb, ranks, bandwidth, latency) for mb in messages)
            row = {"link": link, "ranks": ranks, "messages, ms": f"{ms:.1f}"}
            for compute in args.compute_ms:
                row[f"efficiency at {compute:g} ms"] = f"{compute / (compute + ms):.1%}"
            rows.append(row)
    print_table("Nothing hidden behind the backward", rows)
    return rows
