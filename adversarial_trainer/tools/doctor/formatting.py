"""Format a report as text for people, and as plain containers for programs."""

from __future__ import annotations

import os
import statistics
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from adversarial_trainer.data import STAGES

from .problems import HARMLESS, NARROW, Problem
from .report import AudioFile, Report
from .stats import decibels

VERSION = 2  # of the JSON; raised when a key changes its meaning or is removed
SHOWN = 8  # cases of a problem in the text

# Seconds; up to, but not including.
_LENGTHS = [
    (1.0, "under 1 s"), (3.0, "1 to 3 s"), (10.0, "3 to 10 s"), (30.0, "10 to 30 s"),
    (120.0, "30 s to 2 min"), (600.0, "2 to 10 min"), (float("inf"), "10 min and more"),
]  # fmt: skip


def to_json(report: Report, problems: Sequence[Problem]) -> dict[str, Any]:
    """Convert to plain containers; docs/doctor.md lists the keys. Paths are absolute."""
    files = report.files
    names = [file.path for file in files]
    return {
        "version": VERSION,
        "source": report.source,
        "problems": [
            {
                "kind": problem.kind,
                "text": problem.text,
                "advice": problem.advice,
                "count": len(problem.items),
                "items": [
                    {"files": list(item.files), "detail": item.detail} for item in problem.items
                ],
            }
            for problem in problems
        ],
        "summary": {
            "usable": len(files),
            "skipped": len(report.skipped),
            "seconds": sum(file.stats.duration for file in files),
            "other_files": dict(sorted(report.others.items())),
            "durations": _counts(files, _length, [name for _, name in _LENGTHS]),
            "sample_rates": _counts(files, lambda file: str(file.stats.sample_rate)),
            "channels": _counts(files, lambda file: str(file.stats.channels)),
            "formats": _counts(files, lambda file: file.stats.format),
            "silence": _silence(files),
        },
        "split": {
            stage: {
                "share": report.shares.get(stage, 0),
                "files": len(members := _members(report, stage)),
                "seconds": sum(file.stats.duration for file in members),
            }
            for stage in STAGES
        },
        "copies": [
            {"files": [names[n] for n in group], "same_bytes": same}
            for group, same in zip(report.copies, report.same_bytes, strict=True)
        ],
        "leaks": [
            {"files": [names[n] for n in group], "stages": [list(files[n].stages) for n in group]}
            for group in report.leaks
        ],
        "files": [_stats(file) for file in files],
        "skipped": [
            {"path": skipped.path, "kind": skipped.kind, "reason": skipped.reason}
            for skipped in report.skipped
        ],
    }


def to_text(report: Report, problems: Sequence[Problem]) -> str:
    """Format for people."""
    files = report.files
    seconds = sum(file.stats.duration for file in files)
    links = sum(skipped.kind == HARMLESS for skipped in report.skipped)
    left_out = len(report.skipped) - links
    lines = [
        _name(report.source),
        f"  {_files(len(files))} usable, {_time(seconds)}"
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
        lines += _tables(report)
    return "\n".join(lines) + "\n"


def _problem(number: int, problem: Problem, root: str) -> list[str]:
    count = len(problem.items)
    lines = [f"{number:>3}. {problem.text} ({count:,})  [{problem.kind}]"]
    lines += textwrap.wrap(
        problem.advice, 100, initial_indent="     -> ", subsequent_indent="        "
    )
    shown = problem.items[:SHOWN]
    cases = [(" = ".join(_name(_relative(p, root)) for p in i.files), i.detail) for i in shown]
    width = min(60, max(len(name) for name, _ in cases))
    lines += [f"       {name:<{width}}  {detail}".rstrip() for name, detail in cases]
    if count > SHOWN:
        lines.append(f"       ... and {count - SHOWN:,} more; --json has all")
    return lines


def _tables(report: Report) -> list[str]:
    files = report.files
    tables = [
        ("length", _counts(files, _length, [name for _, name in _LENGTHS])),
        ("sample rate", _counts(files, lambda f: f"{f.stats.sample_rate / 1000:g} kHz")),
        ("channels", _counts(files, lambda f: str(f.stats.channels))),
        ("format", _counts(files, lambda f: f.stats.format)),
        ("content", _counts(files, _bandwidth)),
    ]
    stages = [stage for stage in STAGES if stage in report.shares]
    tables.append(("split", {stage: _sum(_members(report, stage)) for stage in stages}))
    width = max(len(row) for _, table in tables for row in table)
    lines = ["Summary".ljust(17 + width) + "files    duration".rjust(20), ""]
    for title, table in tables:
        for row, sums in table.items():
            count, time = f"{sums['files']:,}", _time(sums["seconds"])
            lines.append(f"  {title:<12} {row:<{width}}  {count:>9}  {time:>10}")
            title = ""
        lines.append("")
    levels = sorted(decibels(file.stats.rms) or -200.0 for file in files)
    lines += [
        f"  {'level':<12} RMS {levels[0]:.1f} to {levels[-1]:.1f} dBFS, "
        f"median {statistics.median(levels):.1f}",
        f"  {'silence':<12} {100 * _silence(files):.1f} % of the time",
        f"  {'copies':<12} {_sets(report.copies)} of files with the same samples",
    ]
    if report.others:
        kinds = ", ".join(f"{_name(kind)} {n:,}" for kind, n in report.others.most_common(8))
        lines.append(f"  {'no audio':<12} {_files(report.others.total())}: {kinds}")
    return lines


def _stats(file: AudioFile) -> dict[str, Any]:
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


def _counts(
    files: Iterable[AudioFile], key: Callable[[AudioFile], str], order: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Sum files and seconds for each `key`: in `order`, or the most seconds first."""
    groups: dict[str, list[AudioFile]] = {name: [] for name in order}
    for file in files:
        groups.setdefault(key(file), []).append(file)
    sums = {name: _sum(members) for name, members in groups.items() if members}
    if order:
        return sums
    return dict(sorted(sums.items(), key=lambda item: -item[1]["seconds"]))


def _sum(files: Sequence[AudioFile]) -> dict[str, float]:
    return {"files": len(files), "seconds": sum(file.stats.duration for file in files)}


def _length(file: AudioFile) -> str:
    return next(name for limit, name in _LENGTHS if file.stats.duration < limit)


def _bandwidth(file: AudioFile) -> str:
    rate, top = file.stats.sample_rate, file.stats.bandwidth
    if top >= NARROW * rate / 2:
        return "to the top of the sample rate"
    return f"up to {top / 1000:.0f} kHz at {rate / 1000:g} kHz"


def _members(report: Report, stage: str) -> list[AudioFile]:
    return [file for file in report.files if stage in file.stages]


def _silence(files: Sequence[AudioFile]) -> float:
    seconds = sum(file.stats.duration for file in files)
    return sum(file.stats.silence * file.stats.duration for file in files) / max(1e-9, seconds)


def _relative(path: str, root: str) -> str:
    inside = path.startswith(root.rstrip(os.sep) + os.sep)
    return os.path.relpath(path, root) if inside else path


def _name(path: str) -> str:
    """Quote a name with newlines, escapes or bytes that are no text."""
    plain = path.isprintable() and path.strip() == path
    return path if plain else ascii(path)


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def _sets(groups: Sequence[object]) -> str:
    return f"{len(groups):,} set" if len(groups) == 1 else f"{len(groups):,} sets"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"
