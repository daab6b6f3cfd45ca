"""Find what to correct before training, and say how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .stats import AudioFile, Report, decibels

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
# Hz: the lowest sample rate of the recipes.
LOW_RATE = 16_000
# Seconds between a manifest's duration and the file's: more than codecs pad.
OFF = 0.1


class Item(NamedTuple):
    """One case of a problem: a file, or several with the same samples."""

    files: list[str]
    detail: str = ""
    severity: float = 0.0


class Problem(NamedTuple):
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
    items: list[Item]


# For each kind of a scan's reasons: the advice.
_LEFT_OUT = {
    "NaN or Inf": "Created by a faulty program: create the files again, or delete them.",
    "truncated": "A copy or a recording was interrupted: copy them again. If the beginning is "
    "enough, open and save them in an audio editor.",
    "unreadable": "Copy or encode them again, correct their permissions, or delete them.",
    "out of range": "Probably whole numbers stored as floats: divide by 32768, save again.",
    "empty file": "Delete them, or copy them again.",
    "odd sample rate": "The header is wrong: set the rate, or delete them.",
    "folder cannot be listed": "Correct the folder's permissions.",
    "unsupported format": "Convert them to flac or wav.",
    "not a regular file": "Delete them, or give them another name.",
    "silent": "Delete them, or record them again.",
    "too short": "Delete them.",
}
# Links within the folder are no problem: they are read once, as intended.
HARMLESS = "second name of a file"
# Text and advice for each kind, the most severe first.
_KINDS = {
    "leak": (
        "in training and held out at once: metrics on held-out files would show how well they "
        "were memorised",
        "Keep one of each, or put them under one stage with dset.stages.<stage>.",
    ),
    **{kind: (f"left out: {kind}", advice) for kind, advice in _LEFT_OUT.items()},
    "few files": (
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
    "low rate": (
        f"a sample rate below {LOW_RATE / 1000:g} kHz, the lowest of the recipes",
        "Fine for a codec of that rate (sample_rate=...). Others learn to leave the top empty.",
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
    problems = {kind: Problem(kind, text, advice, []) for kind, (text, advice) in _KINDS.items()}
    groups: dict[str, list[AudioFile]] = {}  # with the same samples
    for file in report.files:
        groups.setdefault(file.digest, []).append(file)
        for kind, severity, detail in _faults(file):
            problems[kind].items.append(Item([file.path], detail, severity))
    for group in groups.values():
        stages = ", ".join("/".join(file.stages) for file in group)
        item = Item([file.path for file in group], stages)
        if len(group) > 1:
            problems["copies"].items.append(item)
        if len({"train" in file.stages for file in group}) == 2:
            problems["leak"].items.append(item)
    for skipped in report.skipped:
        if skipped.kind != HARMLESS:
            detail = skipped.reason.partition(": ")[2]
            problems[skipped.kind].items.append(Item([skipped.path], detail))
    for problem in problems.values():
        problem.items.sort(key=lambda item: -item.severity)
    return [problem for problem in problems.values() if problem.items]


def _faults(file: AudioFile) -> Iterator[tuple[str, float, str]]:
    """Yield kind, severity (for the order) and description of what is wrong with a usable file."""
    half = file.sample_rate / 2
    if len(file.stages) > 1:
        yield "few files", 0.0, ", ".join(file.stages)
    if file.declared is not None and (off := abs(file.declared - file.seconds)) > OFF:
        yield "manifest", off, f"{file.declared:.1f} s declared, {file.seconds:.1f} s there"
    if file.clipped > CLIPPED:
        yield "clipped", file.clipped, f"{100 * file.clipped:.2g} % clipped"
    if file.bandwidth < NARROW * half:
        content = f"content up to {file.bandwidth / 1000:.1f} kHz"
        rate = f"sample rate {file.sample_rate / 1000:g} kHz"
        yield "narrow", 1 - file.bandwidth / half, f"{content}, {rate}"
    if file.sample_rate < LOW_RATE:
        yield "low rate", -file.sample_rate, f"sample rate {file.sample_rate / 1000:g} kHz"
    if file.offset > OFFSET:
        yield "offset", file.offset, f"mean {file.offset:.3f}"
    if file.silence > SILENT:
        yield "silence", file.silence, f"{100 * file.silence:.0f} % silence"
    if file.peak < QUIET:
        yield "quiet", 1 - file.peak, f"peak {decibels(file.peak):.0f} dBFS"
