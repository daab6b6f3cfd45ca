"""What of a diagnosis needs a person, and what that person can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .diagnosis import Diagnosis, Patient
from .levels import decibels

# Share of clipped samples. One in a thousand is a burst of 48 a second: heard as crackling.
CLIPPED = 1e-3
# Mean against full scale, -40 dB: cuts into segments then begin and end with a click.
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
    """One case of a problem: a file, or several that are one recording."""

    files: tuple[str, ...]
    detail: str = ""


@dataclass(frozen=True)
class Problem:
    """Something that needs a person.

    Attributes:
        kind: a word for programs; the README of these is docs/doctor.md.
        text: what is wrong, without the number of cases.
        advice: what to do.
        items: the cases, the worst first.
    """

    kind: str
    text: str
    advice: str
    items: tuple[Item, ...]


# By the kind of a scan's reason: name, and advice.
_LEFT_OUT = {
    "NaN or Inf samples": (
        "not_finite", "Made by a program's error: make the files again, or delete them."
    ),
    "truncated": (
        "truncated", "A copy or a recording was broken off: copy them again. If what is there will "
        "do, open and save them in an audio editor."
    ),
    "unreadable": ("unreadable", "Copy or encode them again, mend their permissions, or delete "
                   "them."),
    "out of range": (
        "out_of_range", "Probably whole numbers stored as floats: divide by 32768, save again."
    ),
    "empty file": ("empty", "Delete them, or copy them again."),
    "odd sample rate": ("odd_rate", "The header is wrong: set the rate, or delete them."),
    "folder cannot be listed": ("no_access", "Mend the folder's permissions."),
    "unsupported format": ("unsupported", "Convert them to flac or wav."),
    "not a regular file": ("irregular", "Delete them, or give them another name."),
    "silent": ("silent", "Delete them, or record them again."),
    "too short": ("too_short", "Delete them."),
}  # fmt: skip
# Links within the folder do no harm: that these are read once is what people want.
HARMLESS = "second name of a file"


def find_problems(diagnosis: Diagnosis) -> list[Problem]:
    """The worst first."""
    return [problem for problem in _problems(diagnosis) if problem.items]


def _problems(diagnosis: Diagnosis) -> Iterator[Problem]:
    files = diagnosis.files

    def group(numbers: list[int]) -> tuple[str, ...]:
        return tuple(files[n].path for n in numbers)

    yield Problem(
        "leak",
        "in training and held out at once: figures on held-out files would say how well they "
        "were learned by heart",
        "Keep one of each, or put them under one stage with dset.stages.<stage>.",
        tuple(
            Item(group(leak), ", ".join("/".join(files[n].stages) for n in leak))
            for leak in diagnosis.leaks
        ),
    )
    for kind, (name, advice) in _LEFT_OUT.items():
        yield Problem(
            name,
            f"left out: {kind}",
            advice,
            tuple(
                Item((skipped.path,), skipped.reason.partition(": ")[2])
                for skipped in diagnosis.skipped
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
    yield _judged(
        files, "manifest", "not as long as the manifest says", "Write the manifest anew.",
        lambda f: abs((f.declared or f.facts.duration) - f.facts.duration), OFF,
        lambda f: f"{f.declared:.1f} s declared, {f.facts.duration:.1f} s there",
    )  # fmt: skip
    yield Problem(
        "copies",
        "copies, with the same samples: they count more often than the rest",
        "Keep one of each.",
        tuple(
            Item(group(numbers), "same bytes" if same else "same samples, other format or header")
            for numbers, same in zip(diagnosis.copies, diagnosis.same_bytes, strict=True)
        ),
    )
    yield Problem(
        "similar",
        "one recording, encoded, cut or processed in several ways",
        "Listen. Keep the best of each.",
        tuple(Item(group(numbers)) for numbers in diagnosis.similar),
    )
    yield _judged(
        files, "clipped", f"clipped: more than {100 * CLIPPED:g} % of the samples",
        "Look for better sources: a codec learns the distortion.",
        lambda f: f.facts.clipped, CLIPPED, lambda f: f"{100 * f.facts.clipped:.2g} % clipped",
    )  # fmt: skip
    yield _judged(
        files, "narrow", "less bandwidth than the sample rate promises: upsampled, or from a "
        "lossy codec",
        "Fine for a codec of at most twice that rate. For another look for better sources, or it "
        "learns to leave the top empty.",
        lambda f: 1 - f.facts.bandwidth / (f.facts.sample_rate / 2), 1 - NARROW,
        lambda f: f"content up to {f.facts.bandwidth / 1000:.1f} kHz, sample rate "
        f"{f.facts.sample_rate / 1000:g} kHz",
    )  # fmt: skip
    yield _judged(
        files, "offset", f"a DC offset of more than {OFFSET:g} of full scale",
        "Filter it out (a high-pass at 20 Hz).",
        lambda f: f.facts.offset, OFFSET, lambda f: f"mean {f.facts.offset:.3f}",
    )  # fmt: skip
    yield _judged(
        files, "silence", f"silent for more than {100 * SILENT:g} % of the time",
        "Cut the silence out.",
        lambda f: f.facts.silence, SILENT, lambda f: f"{100 * f.facts.silence:.0f} % silence",
    )  # fmt: skip
    yield _judged(
        files, "quiet", f"below {decibels(QUIET):.0f} dBFS throughout",
        "Raise their level, or leave them out.",
        lambda f: 1 - f.facts.peak, 1 - QUIET,
        lambda f: f"peak {decibels(f.facts.peak) or 0:.0f} dBFS",
    )  # fmt: skip


def _judged(
    files: list[Patient],
    kind: str,
    text: str,
    advice: str,
    badness: Callable[[Patient], float],
    limit: float,
    detail: Callable[[Patient], str],
) -> Problem:
    """The files whose badness is above the limit, the worst first."""
    bad = sorted((file for file in files if badness(file) > limit), key=lambda f: -badness(f))
    return Problem(kind, text, advice, tuple(Item((file.path,), detail(file)) for file in bad))
