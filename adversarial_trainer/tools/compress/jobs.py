"""Files that a command reads and writes: one, a pipe, or all of a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tqdm import tqdm

PIPE = "-"


class Job(NamedTuple):
    """A file to read and a file to write; `-` is stdin or stdout."""

    source: str
    target: str


@contextmanager
def open_input(source: str) -> Iterator[BinaryIO]:
    """Open a file for reading, or stdin for `-`."""
    if source == PIPE:
        yield sys.stdin.buffer
    else:
        with open(source, "rb") as file:
            yield file


def list_jobs(
    source: str, target: str, suffixes: Collection[str], suffix: str, force: bool
) -> list[Job]:
    """Return one job, or those for all files below the folder `source`.

    Args:
        suffixes: of the files to find in a folder.
        suffix: of the files to write.
        force: whether targets may exist.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: before anything is written.
    """
    if source == PIPE or not os.path.isdir(source):
        if source != PIPE and not os.path.exists(source):
            raise FileNotFoundError(f"no such file or folder: {source!r}")
        if os.path.isdir(target):
            raise ValueError(f"{target!r} is a folder, and {source!r} is not")
        jobs = [Job(source, target)]
    else:
        if target == PIPE:
            raise ValueError(f"{source!r} is a folder: name a folder to write to, not a pipe")
        jobs = _list_folder(Path(source), Path(target), suffixes, suffix)
    for job in jobs:
        if job.target != PIPE and os.path.lexists(job.target):
            if os.path.exists(job.source) and os.path.samefile(job.source, job.target):
                raise ValueError(f"{job.source!r} would be overwritten by its own output")
            if not force:
                raise FileExistsError(f"{job.target!r} exists; --force overwrites it")
    return jobs


def _list_folder(source: Path, target: Path, suffixes: Collection[str], suffix: str) -> list[Job]:
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not found:
        raise ValueError(f"{str(source)!r}: no file in it ends in {', '.join(sorted(suffixes))}")
    sources: dict[Path, Path] = {}  # of each target
    for path in found:
        out = (target / path.relative_to(source)).with_suffix(suffix)
        if (other := sources.setdefault(out, path)) != path:
            raise ValueError(f"{str(other)!r} and {str(path)!r} would both become {str(out)!r}")
    return [Job(str(path), str(out)) for out, path in sources.items()]


def run_jobs(jobs: list[Job], work: Callable[[Job], int], description: str) -> int:
    """Run all jobs. Errors of a single job are raised, of several those are listed at the end.

    Args:
        work: returns an exit status.

    Returns:
        The highest status; at least 1 if a job failed.
    """
    if len(jobs) == 1:
        try:
            return work(jobs[0])
        except ValueError as error:
            raise ValueError(_message(jobs[0], error)) from error
    status, failed = 0, []
    for job in tqdm(jobs, desc=description, unit="file", disable=None):
        try:
            status = max(status, work(job))
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            failed.append(_message(job, error))
    if failed:
        print(f"{len(failed)} of {len(jobs)} files failed:", file=sys.stderr)
        print("\n".join(failed), file=sys.stderr)
    return max(status, 1) if failed else status


def _message(job: Job, error: Exception) -> str:
    """Return the error's message, prefixed with the file if it does not name it."""
    name = "stdin" if job.source == PIPE else job.source
    return str(error) if name in str(error) else f"{name}: {error}"
