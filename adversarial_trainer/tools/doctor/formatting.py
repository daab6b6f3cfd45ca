"""Format a report as text for people, and as plain containers for programs."""

from __future__ import annotations

import os
import statistics
import textwrap
from collections.abc import Sequence
from typing import Any

from adversarial_trainer.data import STAGES

from .problems import HARMLESS, NARROW, Problem
from .report import AudioFile, Report
from .stats import decibels

VERSION = 3  # of the JSON; raised when a key changes its meaning or is removed
SHOWN = 8  # cases of a problem in the text

# Seconds; up to, but not including.
_LENGTHS = [
    (1.0, "under 1 s"), (3.0, "1 to 3 s"), (10.0, "3 to 10 s"), (30.0, "10 to 30 s"),
    (120.0, "30 s to 2 min"), (600.0, "2 to 10 min"), (float("inf"), "10 min and more"),
]  # fmt: skip


def to_json(report: Report, problems: Sequence[Problem]) -> dict[str, Any]:
    """Convert to plain containers; docs/doctor.md lists the keys. Paths are absolute."""
    files = report.files
    return {
        "version": VERSION,
        "source": report.source,
        "problems": [
            {"kind": p.kind, "text": p.text, "advice": p.advice, "count": len(p.items),
             "items": [{"files": list(item.files), "detail": item.detail} for item in p.items]}
            for p in problems
        ],
        "summary": {
            "usable": len(files),
            "skipped": len(report.skipped),
            "seconds": _seconds(files),
            "silence": _silence(files),
            "other_files": dict(sorted(report.others.items())),
            **_tables(files),
        },
        "split": _split(report),
        "files": [_file(file) for file in files],
        "skipped": [
            {"path": skipped.path, "kind": skipped.kind, "reason": skipped.reason}
            for skipped in report.skipped
        ],
    }  # fmt: skip


def to_text(report: Report, problems: Sequence[Problem]) -> str:
    """Format for people."""
    files = report.files
    links = sum(skipped.kind == HARMLESS for skipped in report.skipped)
    left_out = len(report.skipped) - links
    lines = [
        _name(report.source),
        f"  {_files(len(files))} usable, {_time(_seconds(files))}"
        + (f"; {left_out:,} left out" if left_out else "")
        + (f"; {links:,} more names of the same files" if links else ""),
        "",
    ]
    if problems:
        lines += ["Issues, most severe first", ""]
        for number, problem in enumerate(problems, 1):
            lines += [*_problem(number, problem, report.root), ""]
    else:
        lines += ["No issues found.", ""]
    if files:
        lines += _summary(report)
    return "\n".join(lines) + "\n"


def _problem(number: int, problem: Problem, root: str) -> list[str]:
    count = len(problem.items)
    lines = [f"{number:>3}. {problem.text} ({count:,})  [{problem.kind}]"]
    lines += textwrap.wrap(
        problem.advice, 100, initial_indent="     -> ", subsequent_indent="        "
    )
    shown = problem.items[:SHOWN]
    names = [" = ".join(_name(_relative(path, root)) for path in item.files) for item in shown]
    width = min(60, max(map(len, names)))
    for name, item in zip(names, shown, strict=True):
        lines.append(f"       {name:<{width}}  {item.detail}".rstrip())
    if count > SHOWN:
        lines.append(f"       ... and {count - SHOWN:,} more; --json has all")
    return lines


def _summary(report: Report) -> list[str]:
    files = report.files
    tables = {**_tables(files), "split": _split(report)}
    width = max(len(row) for table in tables.values() for row in table)
    lines = ["Summary".ljust(18 + width) + "files    duration".rjust(20), ""]
    for name, table in tables.items():
        title = name.replace("_", " ")
        for row, sums in table.items():
            count, time = f"{sums['files']:,}", _time(sums["seconds"])
            lines.append(f"  {title:<13} {row:<{width}}  {count:>9}  {time:>10}")
            title = ""
        lines.append("")
    levels = sorted(decibels(file.stats.rms) or -200.0 for file in files)
    lines += [
        f"  {'level':<13} RMS {levels[0]:.1f} to {levels[-1]:.1f} dBFS, "
        f"median {statistics.median(levels):.1f}",
        f"  {'silence':<13} {100 * _silence(files):.1f} % of the time",
    ]
    if report.others:
        kinds = ", ".join(f"{_name(kind)} {n:,}" for kind, n in report.others.most_common(8))
        lines.append(f"  {'no audio':<13} {_files(report.others.total())}: {kinds}")
    return lines


def _file(file: AudioFile) -> dict[str, Any]:
    stats = file.stats
    return {
        "path": file.path,
        "stages": list(file.stages),
        "format": stats.format,
        "sample_rate": stats.sample_rate,
        "channels": stats.channels,
        "seconds": stats.duration,
        "bandwidth": stats.bandwidth,
        "peak_dbfs": decibels(stats.peak),
        "rms_dbfs": decibels(stats.rms),
        "offset": stats.offset,
        "silence": stats.silence,
        "clipped": stats.clipped,
        "digest": stats.digest.hex(),
    }


def _tables(files: Sequence[AudioFile]) -> dict[str, dict[str, dict[str, float]]]:
    """Count files and seconds by duration, sample rate in Hz, channels, format and bandwidth."""
    names = ("durations", "sample_rates", "channels", "formats", "bandwidths")
    tables: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    for file in sorted(files, key=lambda file: file.stats.duration):
        stats = file.stats
        length = next(name for top, name in _LENGTHS if stats.duration < top)
        rate, channels = str(stats.sample_rate), str(stats.channels)
        rows = length, rate, channels, stats.format, _bandwidth(file)
        for name, row in zip(names, rows, strict=True):
            sums = tables[name].setdefault(row, {"files": 0, "seconds": 0.0})
            sums["files"] += 1
            sums["seconds"] += stats.duration
    return tables


def _split(report: Report) -> dict[str, dict[str, float]]:
    rows = {}
    for stage in STAGES:
        members = [file for file in report.files if stage in file.stages]
        share = report.shares.get(stage, 0)
        rows[stage] = {"share": share, "files": len(members), "seconds": _seconds(members)}
    return rows


def _bandwidth(file: AudioFile) -> str:
    rate, top = file.stats.sample_rate, file.stats.bandwidth
    if top >= NARROW * rate / 2:
        return "all of the sample rate's"
    return f"up to {top / 1000:.0f} kHz at {rate / 1000:g} kHz"


def _seconds(files: Sequence[AudioFile]) -> float:
    return sum(file.stats.duration for file in files)


def _silence(files: Sequence[AudioFile]) -> float:
    silent = sum(file.stats.silence * file.stats.duration for file in files)
    return silent / max(1e-9, _seconds(files))


def _relative(path: str, root: str) -> str:
    inside = path.startswith(root.rstrip(os.sep) + os.sep)
    return os.path.relpath(path, root) if inside else path


def _name(path: str) -> str:
    """Quote a name with newlines, escapes or bytes that are no text."""
    plain = path.isprintable() and path.strip() == path
    return path if plain else ascii(path)


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"
