"""A diagnosis as text for people, and as plain containers for programs."""

from __future__ import annotations

import os
import statistics
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from adversarial_trainer.data import STAGES

from .diagnosis import MIN_HASHES, Diagnosis, Patient
from .findings import HARMLESS, NARROW, Problem
from .levels import decibels

VERSION = 1  # of the JSON; raised when a key changes its meaning or goes
SHOWN = 8  # cases of a problem in the text

# Seconds; up to, but not including.
_LENGTHS = [
    (1.0, "under 1 s"), (3.0, "1 to 3 s"), (10.0, "3 to 10 s"), (30.0, "10 to 30 s"),
    (120.0, "30 s to 2 min"), (600.0, "2 to 10 min"), (float("inf"), "10 min and more"),
]  # fmt: skip


def to_json(diagnosis: Diagnosis, problems: Sequence[Problem]) -> dict[str, Any]:
    """Plain containers; see docs/doctor.md for the keys. Paths are absolute."""
    files = diagnosis.files
    names = [file.path for file in files]
    return {
        "version": VERSION,
        "source": diagnosis.source,
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
            "skipped": len(diagnosis.skipped),
            "seconds": sum(file.facts.duration for file in files),
            "other_files": dict(sorted(diagnosis.others.items())),
            "durations": _counts(files, _length, [name for _, name in _LENGTHS]),
            "sample_rates": _counts(files, lambda file: str(file.facts.sample_rate)),
            "channels": _counts(files, lambda file: str(file.facts.channels)),
            "formats": _counts(files, lambda file: file.facts.format),
            "silence": _silence(files),
            "not_compared": diagnosis.not_compared,
        },
        "split": {
            stage: {
                "share": diagnosis.shares.get(stage, 0),
                "files": len(members := _members(diagnosis, stage)),
                "seconds": sum(file.facts.duration for file in members),
            }
            for stage in STAGES
        },
        "copies": [
            {"files": [names[n] for n in group], "same_bytes": same}
            for group, same in zip(diagnosis.copies, diagnosis.same_bytes, strict=True)
        ],
        "similar": [{"files": [names[n] for n in group]} for group in diagnosis.similar],
        "leaks": [
            {"files": [names[n] for n in group], "stages": [list(files[n].stages) for n in group]}
            for group in diagnosis.leaks
        ],
        "files": [_facts(file) for file in files],
        "skipped": [
            {"path": skipped.path, "kind": skipped.kind, "reason": skipped.reason}
            for skipped in diagnosis.skipped
        ],
    }


def to_text(diagnosis: Diagnosis, problems: Sequence[Problem]) -> str:
    """The report."""
    files = diagnosis.files
    seconds = sum(file.facts.duration for file in files)
    links = sum(skipped.kind == HARMLESS for skipped in diagnosis.skipped)
    left_out = len(diagnosis.skipped) - links
    lines = [
        _name(diagnosis.source),
        f"  {_files(len(files))} usable, {_time(seconds)}"
        + (f"; {left_out:,} left out" if left_out else "")
        + (f"; {links:,} more names of the same files" if links else ""),
        "",
    ]
    if problems:
        lines += ["NEEDS A PERSON, the worst first", ""]
        for number, problem in enumerate(problems, 1):
            lines += [*_problem(number, problem, diagnosis.root), ""]
    else:
        lines += ["Nothing needs a person.", ""]
    if files:
        lines += _tables(diagnosis)
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


def _tables(diagnosis: Diagnosis) -> list[str]:
    files = diagnosis.files
    tables = [
        ("length", _counts(files, _length, [name for _, name in _LENGTHS])),
        ("sample rate", _counts(files, lambda f: f"{f.facts.sample_rate / 1000:g} kHz")),
        ("channels", _counts(files, lambda f: str(f.facts.channels))),
        ("format", _counts(files, lambda f: f.facts.format)),
        ("content", _counts(files, _bandwidth)),
    ]
    stages = [stage for stage in STAGES if stage in diagnosis.shares]
    tables.append(("split", {stage: _sum(_members(diagnosis, stage)) for stage in stages}))
    width = max(len(row) for _, table in tables for row in table)
    lines = ["FACTS".ljust(17 + width) + "files    duration".rjust(20), ""]
    for title, table in tables:
        for row, sums in table.items():
            count, time = f"{sums['files']:,}", _time(sums["seconds"])
            lines.append(f"  {title:<12} {row:<{width}}  {count:>9}  {time:>10}")
            title = ""
        lines.append("")
    levels = sorted(decibels(file.facts.rms) or -200.0 for file in files)
    lines += [
        f"  {'level':<12} RMS {levels[0]:.1f} to {levels[-1]:.1f} dBFS, "
        f"median {statistics.median(levels):.1f}",
        f"  {'silence':<12} {100 * _silence(files):.1f} % of the time",
        f"  {'copies':<12} {_sets(diagnosis.copies)} with the same samples, "
        f"{_sets(diagnosis.similar)} of one recording",
    ]
    if diagnosis.not_compared:
        lines.append(
            f"  {'':<12} {_files(diagnosis.not_compared)} too short or too plain to look for "
            f"similar ones (fewer than {MIN_HASHES} landmarks)"
        )
    if diagnosis.others:
        kinds = ", ".join(f"{_name(kind)} {n:,}" for kind, n in diagnosis.others.most_common(8))
        lines.append(f"  {'no audio':<12} {_files(diagnosis.others.total())}: {kinds}")
    return lines


def _facts(file: Patient) -> dict[str, Any]:
    facts = file.facts
    return {
        "path": file.path,
        "stages": list(file.stages),
        "format": facts.format,
        "sample_rate": facts.sample_rate,
        "channels": facts.channels,
        "seconds": facts.duration,
        "bandwidth": facts.bandwidth,
        "peak_dbfs": decibels(facts.peak),
        "rms_dbfs": decibels(facts.rms),
        "offset": facts.offset,
        "silence": facts.silence,
        "clipped": facts.clipped,
        "digest": facts.digest.hex(),
    }


def _counts(
    files: Iterable[Patient], key: Callable[[Patient], str], order: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Files and seconds by `key`: in `order`, or the most seconds first."""
    groups: dict[str, list[Patient]] = {name: [] for name in order}
    for file in files:
        groups.setdefault(key(file), []).append(file)
    sums = {name: _sum(members) for name, members in groups.items() if members}
    if order:
        return sums
    return dict(sorted(sums.items(), key=lambda item: -item[1]["seconds"]))


def _sum(files: Sequence[Patient]) -> dict[str, float]:
    return {"files": len(files), "seconds": sum(file.facts.duration for file in files)}


def _length(file: Patient) -> str:
    return next(name for limit, name in _LENGTHS if file.facts.duration < limit)


def _bandwidth(file: Patient) -> str:
    rate, top = file.facts.sample_rate, file.facts.bandwidth
    if top >= NARROW * rate / 2:
        return "to the top of the sample rate"
    return f"up to {top / 1000:.0f} kHz at {rate / 1000:g} kHz"


def _members(diagnosis: Diagnosis, stage: str) -> list[Patient]:
    return [file for file in diagnosis.files if stage in file.stages]


def _silence(files: Sequence[Patient]) -> float:
    seconds = sum(file.facts.duration for file in files)
    return sum(file.facts.silence * file.facts.duration for file in files) / max(1e-9, seconds)


def _relative(path: str, root: str) -> str:
    inside = path.startswith(root.rstrip(os.sep) + os.sep)
    return os.path.relpath(path, root) if inside else path


def _name(path: str) -> str:
    """As it is where that can be read, else quoted: newlines, escapes, bytes that are no text."""
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
