"""Files that a command reads and writes: one, a pipe, or all of a folder."""

from __future__ import annotations

import os
import sys
from collections import Counter
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
    """Return one job, or those for all files below the folder `source` without their target.

    What of a folder is left out is printed.

    Args:
        suffixes: of the files to find in a folder.
        suffix: of the files to write.
        force: whether to write targets that exist.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: before anything is written.
    """
    if source != PIPE and os.path.isdir(source):
        if target == PIPE:
            raise ValueError(f"{source!r} is a folder: name a folder to write to, not a pipe")
        return _list_folder(source, target, suffixes, suffix, force)
    if source != PIPE and not os.path.exists(source):
        raise FileNotFoundError(f"no such file or folder: {source!r}")
    if os.path.isdir(target):
        raise ValueError(f"{target!r} is a folder, and {source!r} is not")
    if target != PIPE and os.path.lexists(target):
        if os.path.exists(source) and os.path.samefile(source, target):
            raise ValueError(f"{source!r} would be overwritten by its own output")
        if not force:
            raise FileExistsError(f"{target!r} exists; --force overwrites it")
    return [Job(source, target)]


def _list_folder(
    source: str, target: str, suffixes: Collection[str], suffix: str, force: bool
) -> list[Job]:
    found: list[str] = []
    others: Counter[str] = Counter()
    for path in _files_below(source):
        extension = os.path.splitext(path)[1]
        if extension.lower() in suffixes and os.path.isfile(path):
            found.append(path)
        else:
            others[extension if os.path.isfile(path) else "not a regular file"] += 1
    if not found:
        raise ValueError(f"{source!r}: no file in it ends in {', '.join(sorted(suffixes))}")
    names = Counter([*found, *(os.path.splitext(path)[0] for path in found)])
    jobs = []
    for path in found:
        stem = os.path.splitext(path)[0]
        name = stem if names[stem] == 1 else path  # of a.wav and a.flac, both whole
        jobs.append(Job(path, os.path.join(target, os.path.relpath(name, source)) + suffix))
    todo = [job for job in jobs if force or not os.path.lexists(job.target)]
    if len(todo) < len(jobs):
        print(f"{len(jobs) - len(todo)} files are there already; --force makes them anew")
    if others:
        print("left out:", ", ".join(f"{n} {kind}" for kind, n in others.most_common()))
    return todo


def _files_below(source: str) -> list[str]:
    """Return what is below a folder, through links, but for links back to a folder above."""
    found = []
    for folder, folders, names in os.walk(source, followlinks=True):
        here = Path(folder).resolve()
        folders[:] = [f for f in folders if not here.is_relative_to(Path(folder, f).resolve())]
        found += [os.path.join(folder, name) for name in names]
    return sorted(found)


def run_jobs(jobs: list[Job], work: Callable[[Job], int], name: str) -> int:
    """Run all jobs. Errors of a single job are raised, of several those are listed at the end.

    Args:
        work: returns an exit status.
        name: of the command.

    Returns:
        The highest status; at least 1 if a job failed.
    """
    if len(jobs) == 1:
        try:
            return work(jobs[0])
        except ValueError as error:
            raise ValueError(_message(jobs[0], error)) from error
    status, done, failed = 0, 0, []
    try:
        for job in tqdm(jobs, name, unit="file", disable=None):
            try:
                status = max(status, work(job))
                done += 1
            except (OSError, ValueError) as error:
                failed.append(_message(job, error))
    finally:
        print(f"{name}: {done} of {len(jobs)} files done, {len(failed)} failed")
        print("".join(f"{message}\n" for message in failed), end="", file=sys.stderr)
    return max(status, 1) if failed else status


def _message(job: Job, error: Exception) -> str:
    """Return the error's message, prefixed with the file if it does not name it."""
    name = "stdin" if job.source == PIPE else job.source
    return str(error) if name in str(error) else f"{name}: {error}"
