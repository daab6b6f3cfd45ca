"""Format a report as text for people, and as plain containers for programs."""

from __future__ import annotations

import os
import re
import statistics
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from adversarial_trainer.registry import format_count

from .problems import HARMLESS, NARROW, Problem
from .stats import AudioFile, Report, decibels

VERSION = 4  # of the JSON; raised when a key changes its meaning or is removed
SHOWN = 8  # cases of a problem in the text

Table = dict[str, dict[str, float]]  # for each row, the number of files and their seconds


def to_json(report: Report, problems: Sequence[Problem]) -> dict[str, Any]:
    """Convert to plain containers; docs/doctor.md lists the keys. Paths are absolute."""
    return {
        "version": VERSION,
        "source": report.source,
        "problems": [
            problem._asdict() | {"items": [item._asdict() for item in problem.items]}
            for problem in problems
        ],
        "summary": {
            "usable": len(report.files),
            "skipped": len(report.skipped),
            "seconds": _seconds(report.files),
            "silence": _silence(report.files),
            **_tables(report.files),
        },
        "files": [asdict(file) for file in report.files],
        "skipped": [skipped._asdict() | {"kind": skipped.kind} for skipped in report.skipped],
    }


def to_text(report: Report, problems: Sequence[Problem]) -> str:
    """Format for people."""
    links = sum(skipped.kind == HARMLESS for skipped in report.skipped)
    left_out = len(report.skipped) - links
    lines = [
        _name(report.source),
        f"  {format_count(len(report.files), 'usable file')}, {_time(_seconds(report.files))}"
        + (f"; {left_out:,} left out" if left_out else "")
        + (f"; {links:,} more names of the same files" if links else ""),
        "",
        "Issues, most severe first" if problems else "No issues found.",
        "",
    ]
    for number, problem in enumerate(problems, 1):
        lines += [*_problem(number, problem, report.root), ""]
    if report.files:
        lines += _summary(report)
    return "\n".join(lines) + "\n"


def _problem(number: int, problem: Problem, root: str) -> list[str]:
    count = len(problem.items)
    lines = [f"{number:>3}. {problem.text} ({count:,})  [{problem.kind}]"]
    lines += textwrap.wrap(
        problem.advice, 100, initial_indent="     -> ", subsequent_indent="        "
    )
    shown = problem.items[:SHOWN]
    inside = root.rstrip(os.sep) + os.sep
    names = [" = ".join(_name(path.removeprefix(inside)) for path in i.files) for i in shown]
    width = min(60, max(map(len, names)))
    for name, item in zip(names, shown, strict=True):
        lines.append(f"       {name:<{width}}  {item.detail}".rstrip())
    if count > SHOWN:
        lines.append(f"       ... and {count - SHOWN:,} more; --json has all")
    return lines


def _summary(report: Report) -> list[str]:
    tables = _tables(report.files)
    width = max(len(row) for table in tables.values() for row in table)
    lines = ["Summary".ljust(18 + width) + "files    duration".rjust(20), ""]
    for name, table in tables.items():
        title = name.replace("_", " ")
        for row, sums in table.items():
            count, time = f"{sums['files']:,}", _time(sums["seconds"])
            lines.append(f"  {title:<13} {row:<{width}}  {count:>9}  {time:>10}")
            title = ""
        lines.append("")
    levels = sorted(decibels(file.rms) for file in report.files)
    times = sorted(file.seconds for file in report.files)
    return [
        *lines,
        f"  duration      {_time(times[0])} to {_time(times[-1])}, "
        f"median {_time(statistics.median(times))}",
        f"  level         RMS {levels[0]:.1f} to {levels[-1]:.1f} dBFS, "
        f"median {statistics.median(levels):.1f}",
        f"  silence       {100 * _silence(report.files):.1f} % of the time",
    ]


def _tables(files: Sequence[AudioFile]) -> dict[str, Table]:
    """Count files and seconds by sample rate in Hz, channels, format, bandwidth and stage."""
    rows: dict[str, Callable[[AudioFile], str]] = {
        "sample_rates": lambda file: str(file.sample_rate),
        "channels": lambda file: str(file.channels),
        "formats": lambda file: file.format,
        "bandwidths": _bandwidth,
        "stages": lambda file: "/".join(file.stages),
    }
    tables: dict[str, Table] = {}
    for name, row_of in rows.items():
        groups: dict[str, list[AudioFile]] = {}
        for file in files:
            groups.setdefault(row_of(file), []).append(file)
        tables[name] = {
            row: {"files": len(group), "seconds": _seconds(group)}
            for row, group in sorted(groups.items(), key=lambda item: _by_number(item[0]))
        }
    return tables


def _by_number(row: str) -> list[str | int]:
    """A key that puts 8000 before 16000."""
    return [int(x) if x.isdecimal() else x for x in re.split(r"(\d+)", row)]


def _bandwidth(file: AudioFile) -> str:
    if file.bandwidth >= NARROW * file.sample_rate / 2:
        return "all of the sample rate's"
    return f"up to {file.bandwidth / 1000:.0f} kHz at {file.sample_rate / 1000:g} kHz"


def _seconds(files: Sequence[AudioFile]) -> float:
    return sum(file.seconds for file in files)


def _silence(files: Sequence[AudioFile]) -> float:
    return sum(file.silence * file.seconds for file in files) / max(1e-9, _seconds(files))


def _name(path: str) -> str:
    """Quote a name with newlines, escapes or bytes that are no text."""
    plain = path.isprintable() and path.strip() == path
    return path if plain else ascii(path)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"
