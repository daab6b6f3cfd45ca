"""Find what to correct before training, and say how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .report import AudioFile, Report
from .stats import decibels

# Share of clipped samples. One in a thousand is a burst of 48 a second: heard as crackling.
CLIPPED = 1e-3
# Mean against full scale, -40 dB: segments then begin and end with a click.
OFFSET = 0.01
# More than half of what is drawn from the file would be silence.
SILENT = 0.5
# Peak, -40 dBFS: in 16 bits less than 10 of them are used.
QUIET = 0.01
# Of half the sample rate. Filters of recorders and of good codecs keep 0.83 (20 kHz at 48 kHz).
NARROW = 0.8
# Seconds between a manifest's duration and the file's: more than codecs pad.
OFF = 0.1


@dataclass(frozen=True)
class Item:
    """One case of a problem: a file, or several with the same samples."""

    files: tuple[str, ...]
    detail: str = ""


@dataclass(frozen=True)
class Problem:
    """Something to correct before training.

    Attributes:
        kind: a word for programs; docs/doctor.md lists them.
        text: what is wrong, without the number of cases.
        advice: what to do.
        items: the cases, the most severe first.
    """

    kind: str
    text: str
    advice: str
    items: tuple[Item, ...]


# For each kind of a scan's reasons: name and advice.
_LEFT_OUT = {
    "NaN or Inf samples": (
        "not_finite", "Created by a faulty program: create the files again, or delete them."
    ),
    "truncated": (
        "truncated", "A copy or a recording was interrupted: copy them again. If the beginning is "
        "enough, open and save them in an audio editor."
    ),
    "unreadable": ("unreadable", "Copy or encode them again, correct their permissions, or delete "
                   "them."),
    "out of range": (
        "out_of_range", "Probably whole numbers stored as floats: divide by 32768, save again."
    ),
    "empty file": ("empty", "Delete them, or copy them again."),
    "odd sample rate": ("odd_rate", "The header is wrong: set the rate, or delete them."),
    "folder cannot be listed": ("no_access", "Correct the folder's permissions."),
    "unsupported format": ("unsupported", "Convert them to flac or wav."),
    "not a regular file": ("irregular", "Delete them, or give them another name."),
    "silent": ("silent", "Delete them, or record them again."),
    "too short": ("too_short", "Delete them."),
}  # fmt: skip
# Links within the folder are no problem: they are read once, as intended.
HARMLESS = "second name of a file"
# Text and advice for each kind, the most severe first.
_PROBLEMS = {
    "leak": (
        "in training and held out at once: metrics on held-out files would show how well they "
        "were memorised",
        "Keep one of each, or put them under one stage with dset.stages.<stage>.",
    ),
    **{kind: (f"left out: {reason}", advice) for reason, (kind, advice) in _LEFT_OUT.items()},
    "few_files": (
        "serving several stages, because there are too few",
        "Add files, cut long ones up, or give stages files of their own (dset.stages.<stage>).",
    ),
    "manifest": ("not as long as the manifest says", "Write the manifest anew."),
    "copies": (
        "copies, with the same samples: they count more often than the rest",
        "Keep one of each.",
    ),
    "clipped": (
        f"clipped: more than {100 * CLIPPED:g} % of the samples",
        "Look for better sources: a codec learns the distortion.",
    ),
    "narrow": (
        "less bandwidth than the sample rate promises: upsampled, or from a lossy codec",
        "Fine for a codec with a sample rate of at most twice that. For others look for better "
        "sources, or the codec learns to leave the top empty.",
    ),
    "offset": (
        f"a DC offset of more than {OFFSET:g} of full scale",
        "Filter it out (a high-pass at 20 Hz).",
    ),
    "silence": (f"silent for more than {100 * SILENT:g} % of the time", "Cut the silence out."),
    "quiet": (
        f"below {decibels(QUIET):.0f} dBFS throughout",
        "Raise their level, or leave them out.",
    ),
}


def find_problems(report: Report) -> list[Problem]:
    """Return the problems that have cases, the most severe first."""
    cases: dict[str, list[tuple[float, Item]]] = {kind: [] for kind in _PROBLEMS}
    for kind, groups in (("leak", report.leaks), ("copies", report.copies)):
        for group in groups:
            stages = ", ".join("/".join(file.stages) for file in group)
            cases[kind].append((0.0, Item(tuple(file.path for file in group), stages)))
    for skipped in report.skipped:
        if skipped.kind != HARMLESS:
            detail = skipped.reason.partition(": ")[2]
            cases[_LEFT_OUT[skipped.kind][0]].append((0.0, Item((skipped.path,), detail)))
    for file in report.files:
        for kind, severity, detail in _faults(file):
            cases[kind].append((severity, Item((file.path,), detail)))
    return [
        Problem(kind, *_PROBLEMS[kind], tuple(item for _, item in sorted(found, key=_severest)))
        for kind, found in cases.items()
        if found
    ]


def _severest(case: tuple[float, Item]) -> float:
    return -case[0]


def _faults(file: AudioFile) -> Iterator[tuple[str, float, str]]:
    """Yield kind, severity (for the order) and description of what is wrong with a usable file."""
    stats = file.stats
    half = stats.sample_rate / 2
    if len(file.stages) > 1:
        yield "few_files", 0.0, ", ".join(file.stages)
    if (off := abs(file.declared - stats.duration)) > OFF:
        yield "manifest", off, f"{file.declared:.1f} s declared, {stats.duration:.1f} s there"
    if stats.clipped > CLIPPED:
        yield "clipped", stats.clipped, f"{100 * stats.clipped:.2g} % clipped"
    if stats.bandwidth < NARROW * half:
        content = f"content up to {stats.bandwidth / 1000:.1f} kHz"
        rate = f"sample rate {stats.sample_rate / 1000:g} kHz"
        yield "narrow", 1 - stats.bandwidth / half, f"{content}, {rate}"
    if stats.offset > OFFSET:
        yield "offset", stats.offset, f"mean {stats.offset:.3f}"
    if stats.silence > SILENT:
        yield "silence", stats.silence, f"{100 * stats.silence:.0f} % silence"
    if stats.peak < QUIET:
        yield "quiet", 1 - stats.peak, f"peak {decibels(stats.peak) or 0:.0f} dBFS"
