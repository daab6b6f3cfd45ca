"""Look at all files of a folder or manifest, at copies among them and at the split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from adversarial_trainer.data import (
    DEFAULT_SHARES,
    AudioMeta,
    Skipped,
    is_manifest,
    load_manifest,
    split,
)
from adversarial_trainer.data.listing import Listing, list_files
from adversarial_trainer.data.scan_cache import Entry
from adversarial_trainer.data.splitting import check_shares

from .duplicates import connected, same_content, similar_pairs
from .examine import Facts, examine

# A fingerprint of fewer hashes says too little; it is that of a file of less than a second or two.
MIN_HASHES = 16


@dataclass(frozen=True)
class Patient:
    """A usable file. `stages` are those it would serve, one for all but the smallest folders."""

    path: str
    facts: Facts
    stages: tuple[str, ...]
    declared: float | None = None  # seconds that a manifest says


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        source: folder or manifest; `root` is the folder that paths are shown against.
        files: the usable ones, sorted by path (in a manifest's order).
        skipped: those that training leaves out, with the reason; sorted by path.
        others: how many files there are of extensions that are no audio.
        shares: of the split.
        copies: groups of files with the same samples, indices into `files`.
        same_bytes: for each of `copies`, whether the files are equal as such.
        similar: groups of files that are one recording, encoded, cut or processed in another way;
            one file of each of `copies`.
        leaks: groups of both kinds of which training would have one, and a held-out stage another.
        not_compared: files that are too short or too plain for a fingerprint.
    """

    source: str
    root: str
    files: list[Patient]
    skipped: list[Skipped]
    shares: Mapping[str, float]
    others: Counter[str] = field(default_factory=Counter)
    copies: list[list[int]] = field(default_factory=list)
    same_bytes: list[bool] = field(default_factory=list)
    similar: list[list[int]] = field(default_factory=list)
    leaks: list[list[int]] = field(default_factory=list)
    not_compared: int = 0


def diagnose(
    source: str | Path,
    shares: Mapping[str, float] = DEFAULT_SHARES,
    workers: int | None = None,
    progress: bool | None = None,
) -> Diagnosis:
    """Examine every file. Nothing is written anywhere.

    Args:
        source: a folder or a manifest, taken as `dset.path` is.
        shares: of the stages, as `dset.shares`.
        workers: threads; by default one a core.
        progress: a bar on stderr; None: where that is a terminal.
    Raises:
        FileNotFoundError, ValueError: there is no such folder, no audio file in it, or the shares
            or the manifest are wrong.
    """
    check_shares(shares)
    source = str(source)
    declared: dict[str, AudioMeta] = {}
    if is_manifest(source) and not os.path.isdir(source):
        declared = {meta.path: meta for meta in load_manifest(source, "FOLDER")}
        root, listing = os.path.dirname(os.path.abspath(source)), _stat(declared)
    else:
        root, listing = os.path.abspath(source), list_files(source, "FOLDER")
        if not listing.entries and not listing.skipped:
            raise ValueError(f"{source!r}: {listing.nothing()}")
    metas: list[AudioMeta] = []
    facts: list[Facts] = []
    skipped = list(listing.skipped)
    for entry, found in _examined(listing.entries, workers or os.cpu_count() or 1, progress):
        if entry.meta is not None and found is not None:
            metas.append(declared.get(entry.path, entry.meta))
            facts.append(found)
        else:
            skipped.append(Skipped(entry.path, entry.skipped or "unreadable"))
    if not declared:  # a scan's order
        order = sorted(range(len(metas)), key=lambda index: metas[index].path)
        metas, facts = [metas[n] for n in order], [facts[n] for n in order]
    stages: dict[str, list[str]] = {}
    for stage, members in (split(metas, root, shares) if metas else {}).items():
        for meta in members:
            stages.setdefault(meta.path, []).append(stage)
    diagnosis = Diagnosis(
        source=source,
        root=root,
        files=[
            Patient(
                meta.path,
                fact,
                tuple(stages[meta.path]),
                meta.duration if declared else None,
            )
            for meta, fact in zip(metas, facts, strict=True)
        ],
        skipped=sorted(skipped),
        shares=shares,
        others=listing.others,
    )
    _compare(diagnosis)
    return diagnosis


def _stat(declared: Mapping[str, AudioMeta]) -> Listing:
    """The files of a manifest."""
    listing = Listing()
    for path in declared:
        try:
            info = os.stat(path)
        except OSError as error:
            listing.skipped.append(Skipped(path, f"unreadable: {error.strerror}"))
        else:
            listing.entries.append(Entry(path, info.st_size, info.st_mtime_ns))
    return listing


def _examined(
    entries: list[Entry], workers: int, progress: bool | None
) -> Iterator[tuple[Entry, Facts | None]]:
    """In parallel, in order. Threads do: decoding and numpy release the interpreter's lock."""
    disable = None if progress is None else not progress
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(entries), desc="doctor", unit="file", disable=disable) as bar,
    ):
        pending = iter(entries)
        while chunk := list(islice(pending, 1024)):  # bounds what Ctrl-C waits for
            for result in pool.map(examine, chunk):
                bar.update()
                yield result


def _compare(diagnosis: Diagnosis) -> None:
    """Fill in the groups."""
    files = diagnosis.files
    copies = same_content([file.facts.digest for file in files])
    first = {index: group[0] for group in copies for index in group}
    distinct = [index for index in range(len(files)) if first.get(index, index) == index]
    sketches = [(files[n].facts.hashes, files[n].facts.times) for n in distinct]
    pairs = [(distinct[one], distinct[other]) for one, other in similar_pairs(sketches)]
    diagnosis.copies = copies
    diagnosis.same_bytes = [_same_bytes([files[n].path for n in group]) for group in copies]
    diagnosis.similar = connected(len(files), pairs)
    diagnosis.not_compared = sum(len(hashes) < MIN_HASHES for hashes, _ in sketches)
    links = [(group[0], other) for group in copies for other in group[1:]]
    diagnosis.leaks = [
        group
        for group in connected(len(files), [*links, *pairs])
        if len({"train" in files[n].stages for n in group}) == 2
    ]


def _same_bytes(paths: list[str]) -> bool:
    try:
        with open(paths[0], "rb") as one:
            for path in paths[1:]:
                one.seek(0)
                with open(path, "rb") as other:
                    while block := one.read(1 << 20):
                        if block != other.read(len(block)):
                            return False
                    if other.read(1):
                        return False
    except OSError:  # gone since
        return False
    return True
