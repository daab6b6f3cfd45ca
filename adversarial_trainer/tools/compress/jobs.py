"""What a command is to read and write: a file, a pipe, or a folder of files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

PIPE = "-"


class Job(NamedTuple):
    """A file to read and one to write; `-` is a pipe."""

    source: str
    target: str


def list_jobs(
    source: str, target: str, suffixes: Collection[str], suffix: str, force: bool
) -> list[Job]:
    """One job, or those for all files below the folder `source`.

    Args:
        suffixes: of the files that are looked for in a folder.
        suffix: of what they become.
        force: whether targets may be there.

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
        jobs = _tree(Path(source), Path(target), suffixes, suffix)
    for job in jobs:
        if job.target != PIPE and os.path.lexists(job.target):
            if os.path.exists(job.source) and os.path.samefile(job.source, job.target):
                raise ValueError(f"{job.source!r} would be written over itself")
            if not force:
                raise FileExistsError(f"{job.target!r} exists; --force overwrites it")
    return jobs


def _tree(source: Path, target: Path, suffixes: Collection[str], suffix: str) -> list[Job]:
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not found:
        raise ValueError(f"{str(source)!r}: no file in it ends in {', '.join(sorted(suffixes))}")
    made: dict[Path, Path] = {}
    for path in found:
        goal = (target / path.relative_to(source)).with_suffix(suffix)
        if (other := made.setdefault(goal, path)) != path:
            raise ValueError(f"{str(other)!r} and {str(path)!r} would both become {str(goal)!r}")
    return [Job(str(path), str(goal)) for goal, path in made.items()]


def run_jobs(jobs: list[Job], work: Callable[[Job], int], description: str) -> int:
    """Do all; one alone raises what goes wrong, of several those that fail are named at the end.

    Args:
        work: returns an exit status.

    Returns:
        The highest status; at least 1 if one failed.
    """
    if len(jobs) == 1:
        try:
            return work(jobs[0])
        except ValueError as error:
            raise ValueError(_named(jobs[0], error)) from error
    status, failed = 0, []
    for job in tqdm(jobs, desc=description, unit="file", disable=None):
        try:
            status = max(status, work(job))
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            failed.append(_named(job, error))
    if failed:
        print(f"{len(failed)} of {len(jobs)} files failed:", file=sys.stderr)
        print("\n".join(failed), file=sys.stderr)
    return max(status, 1) if failed else status


def _named(job: Job, error: Exception) -> str:
    """What went wrong, with the name of what it went wrong with."""
    name = "stdin" if job.source == PIPE else job.source
    return str(error) if name in str(error) else f"{name}: {error}"
