"""Find what to correct before training, and say how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def find_problems(report: Report) -> list[Problem]:
    """Return the problems that have cases, the most severe first."""
    return [problem for problem in _problems(report) if problem.items]


def _problems(report: Report) -> Iterator[Problem]:
    files = report.files

    def group(numbers: list[int]) -> tuple[str, ...]:
        return tuple(files[n].path for n in numbers)

    yield Problem(
        "leak",
        "in training and held out at once: metrics on held-out files would show how well they "
        "were memorised",
        "Keep one of each, or put them under one stage with dset.stages.<stage>.",
        tuple(
            Item(group(leak), ", ".join("/".join(files[n].stages) for n in leak))
            for leak in report.leaks
        ),
    )
    for kind, (name, advice) in _LEFT_OUT.items():
        yield Problem(
            name,
            f"left out: {kind}",
            advice,
            tuple(
                Item((skipped.path,), skipped.reason.partition(": ")[2])
                for skipped in report.skipped
                if skipped.kind == kind
            ),
        )
    shared = [file for file in files if len(file.stages) > 1]
    yield Problem(
        "few_files",
        f"serving several stages, because there are only {len(files)}",
        "Add files, cut long ones up, or give stages files of their own (dset.stages.<stage>).",
        tuple(Item((file.path,), ", ".join(file.stages)) for file in shared),
    )
    yield _above_limit(
        files, "manifest", "not as long as the manifest says", "Write the manifest anew.",
        lambda f: abs((f.declared or f.stats.duration) - f.stats.duration), OFF,
        lambda f: f"{f.declared:.1f} s declared, {f.stats.duration:.1f} s there",
    )  # fmt: skip
    yield Problem(
        "copies",
        "copies, with the same samples: they count more often than the rest",
        "Keep one of each.",
        tuple(
            Item(group(numbers), "same bytes" if same else "same samples, other format or header")
            for numbers, same in zip(report.copies, report.same_bytes, strict=True)
        ),
    )
    yield _above_limit(
        files, "clipped", f"clipped: more than {100 * CLIPPED:g} % of the samples",
        "Look for better sources: a codec learns the distortion.",
        lambda f: f.stats.clipped, CLIPPED, lambda f: f"{100 * f.stats.clipped:.2g} % clipped",
    )  # fmt: skip
    yield _above_limit(
        files, "narrow", "less bandwidth than the sample rate promises: upsampled, or from a "
        "lossy codec",
        "Fine for a codec with a sample rate of at most twice that. For others look for better "
        "sources, or the codec learns to leave the top empty.",
        lambda f: 1 - f.stats.bandwidth / (f.stats.sample_rate / 2), 1 - NARROW,
        lambda f: f"content up to {f.stats.bandwidth / 1000:.1f} kHz, sample rate "
        f"{f.stats.sample_rate / 1000:g} kHz",
    )  # fmt: skip
    yield _above_limit(
        files, "offset", f"a DC offset of more than {OFFSET:g} of full scale",
        "Filter it out (a high-pass at 20 Hz).",
        lambda f: f.stats.offset, OFFSET, lambda f: f"mean {f.stats.offset:.3f}",
    )  # fmt: skip
    yield _above_limit(
        files, "silence", f"silent for more than {100 * SILENT:g} % of the time",
        "Cut the silence out.",
        lambda f: f.stats.silence, SILENT, lambda f: f"{100 * f.stats.silence:.0f} % silence",
    )  # fmt: skip
    yield _above_limit(
        files, "quiet", f"below {decibels(QUIET):.0f} dBFS throughout",
        "Raise their level, or leave them out.",
        lambda f: 1 - f.stats.peak, 1 - QUIET,
        lambda f: f"peak {decibels(f.stats.peak) or 0:.0f} dBFS",
    )  # fmt: skip


def _above_limit(
    files: list[AudioFile],
    kind: str,
    text: str,
    advice: str,
    severity: Callable[[AudioFile], float],
    limit: float,
    detail: Callable[[AudioFile], str],
) -> Problem:
    """Return the problem of files whose severity is above the limit, the most severe first."""
    bad = sorted((file for file in files if severity(file) > limit), key=lambda f: -severity(f))
    return Problem(kind, text, advice, tuple(Item((file.path,), detail(file)) for file in bad))
