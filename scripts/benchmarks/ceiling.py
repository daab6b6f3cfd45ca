"""Which share of the machine's peak each part of a step reaches."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from . import peaks
from .sides import DTYPES, Side
from .timing import print_table

ByPart = Mapping[str, float]
WHOLE = "all"


def report(
    parts: Sequence[str],
    sides: Mapping[str, Side],
    work: Mapping[str, ByPart],
    seconds: Mapping[str, Sequence[ByPart]],
    device: str,
) -> list[dict[str, Any]]:
    """A row for each part, one for the whole, and one for each precision's peak.

    The work of a part is the smallest of the FLOPs of the sides that compute the same, so that the
    shares of two sides differ as their times do. A side with options is measured by its own FLOPs
    where they could be counted. The peak is that of the precision that a side computes in.

    Args:
        work: FLOPs by part of each side, those left out that could not be counted.
        seconds: of each side, by part, for a number of rounds.
    """
    dtypes = {name: side.dtype for name, side in sides.items()}
    best = {dtype: peaks.measure(device, DTYPES[dtype]) for dtype in sorted(set(dtypes.values()))}
    same = [work[name] for name, side in sides.items() if name in work and not side.options]
    least = {part: min(of_side.get(part, 0.0) for of_side in same) for part in parts}
    rows: list[dict[str, Any]] = []
    for part in [*parts, WHOLE]:
        among = parts if part == WHOLE else [part]
        row: dict[str, Any] = {"part": part}
        for name, rounds in seconds.items():
            own = work.get(name, least)
            useful = sum((own if sides[name].options else least).get(p, 0.0) for p in among)
            took = statistics.median(sum(r.get(p, 0.0) for p in among) for r in rounds)
            share = useful / 1e9 / took / best[dtypes[name]].compute if took else 0.0
            if name in work:
                row[f"{name}, GFLOP"] = f"{sum(own.get(p, 0.0) for p in among) / 1e9:.3g}"
            row[f"{name}, ms"] = f"{1000 * took:.1f}"
            row[f"{name}, of peak"] = f"{share:.0%}" if useful else "-"
        rows.append(row)
    print_table("Parts, and the share of the machine's peak that they reach", rows)
    for dtype, peak in best.items():
        print(
            f"Peak in {dtype}: matrix product {peak.matmul:.0f}, convolution {peak.conv:.0f} "
            f"GFLOP/s; copy {peak.copy:.1f} GB/s"
        )
        rows.append({"peak": dtype, **peak._asdict()})
    return rows
