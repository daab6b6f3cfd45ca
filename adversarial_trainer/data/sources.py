"""Find the files of each stage of a run; divide common ones by the hash of their names."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from adversarial_trainer import distrib

from .manifest import AudioMeta, find_manifest, load_manifest
from .scanning import map_files, scan

logger = logging.getLogger(__name__)

STAGES = ("train", "valid", "evaluate", "generate")
DEFAULT_SHARES: Mapping[str, float] = {
    "train": 0.94, "valid": 0.02, "evaluate": 0.02, "generate": 0.02
}  # fmt: skip


def load_source(
    source: str | Path, cache_dir: str | Path | None = None, name: str = "dset.path"
) -> list[AudioMeta]:
    """Return the files of a folder (scanned) or of a manifest (those that are there).

    Errors name the key `name`.
    """
    progress = distrib.is_rank_zero()
    if find_manifest(source) is None and name != "dset.manifest":
        return scan(source, cache_dir, progress=progress, name=name).files
    metas = load_manifest(source, name)
    paths = [meta.path for meta in metas]
    there = list(map_files(os.path.isfile, paths, "manifest", progress=progress))
    if missing := there.count(False):
        first = paths[there.index(False)]
        line = f"{name}={str(source)!r}: {missing} of {len(metas)} files are missing"
        if missing == len(metas):
            raise FileNotFoundError(f"{line}, as {first!r}")
        logger.warning("%s and left out, as %r", line, first)
    return list(itertools.compress(metas, there))


def configured_metas(dset: DictConfig, cache: Path) -> dict[str, list[AudioMeta]]:
    """Return the files of each stage for a `dset` node; makes the demo corpus if it is missing.

    Called on every rank: rank 0 finds the files and sends the list, or its error, to the others.
    `cache`: folder for scans and the corpus, unless `dset.cache` is set.
    """
    cache, path = Path(dset.cache or cache), dset.path
    outcome: Any = None
    if distrib.is_rank_zero():
        try:
            if dset.name == "demo" and path is None and dset.manifest is None:
                from . import demo  # imports scipy.signal, half a second

                path = demo.build(cache / "demo_corpus")
            outcome = resolve_stage_metas(
                path, dset.manifest, dict(dset.stages), dict(dset.shares), cache
            )
        except (OSError, ValueError) as error:
            outcome = error
    outcome = distrib.broadcast_object(outcome)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def resolve_stage_metas(
    path: str | Path | None = None,
    manifest: str | Path | None = None,
    stages: Mapping[str, str | Path | None] | None = None,
    shares: Mapping[str, float] = DEFAULT_SHARES,
    cache_dir: str | Path | None = None,
) -> dict[str, list[AudioMeta]]:
    """Return the files of each stage: its own folder or manifest, or a part of the common one.

    Args:
        path, manifest: the common folder, or the common manifest (`dset.path`, `dset.manifest`).
            `path` may be a manifest, too, or a folder with AudioCraft's data.jsonl(.gz).
        stages: a folder or manifest for single stages (`dset.stages.<stage>`). Its files are left
            out of the split, and the other stages divide the rest.
        shares: as for `split`.
        cache_dir: as for `scan`.
    Returns:
        A list for each of `STAGES`; empty for a stage with share 0 and no source of its own.
    Raises:
        FileNotFoundError, ValueError: a source is missing, wrong, or has no usable file.
    """
    stages = stages or {}
    metas: dict[str, list[AudioMeta]] = {
        stage: load_source(place, cache_dir, f"dset.stages.{stage}") if place else []
        for stage, place in {**dict.fromkeys(STAGES), **stages}.items()
    }
    own = {_real_path(meta) for files in metas.values() for meta in files}
    open_shares = {stage: share for stage, share in shares.items() if not metas[stage]}
    if any(open_shares.values()):
        source, name = (manifest, "dset.manifest") if path is None else (path, "dset.path")
        if source is None:
            missing = ", ".join(stage for stage, share in open_shares.items() if share)
            raise ValueError(
                f"no audio for {missing}: set dset.path to a folder, dset.manifest to a .jsonl "
                "file, or dset.stages.<stage> to either"
            )
        common = load_source(source, cache_dir, name)
        if own:
            common = [meta for meta in common if _real_path(meta) not in own]
            if not common:
                raise ValueError(f"{name}={str(source)!r}: all its files are in dset.stages")
        root = os.path.abspath(os.path.dirname(source) if os.path.isfile(source) else source)
        metas.update(split(common, root, open_shares))
    if own:  # sources of single stages may overlap, which can be intended
        train = {_real_path(meta) for meta in metas["train"]}
        for stage in STAGES[1:]:
            if shared := sum(_real_path(meta) in train for meta in metas[stage]):
                count = len(metas[stage])
                logger.warning("%d of %d %s files are also in train", shared, count, stage)
    return metas


def _real_path(meta: AudioMeta) -> str:
    folder, name = os.path.split(meta.path)
    return os.path.join(_real_folder(folder), name)


@lru_cache(maxsize=100_000)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)  # takes minutes for a million files on a network file system


def split(
    metas: Sequence[AudioMeta],
    root: str | Path,
    shares: Mapping[str, float] = DEFAULT_SHARES,
) -> dict[str, list[AudioMeta]]:
    """Give each file to one stage, by the hash of its path relative to `root`.

    A file's stage depends neither on the other files nor on where the folder lies, so files can be
    added and the folder can move. Two exceptions keep small folders usable:

    - a stage that would get nothing takes a file from the stage that has the most;
    - with fewer files than stages, the stages after the first share one held-out file, and a
      single file goes to all stages, with a warning.

    Args:
        metas: one file or more; their order is kept within each stage.
        shares: relative sizes >= 0 of the stages, one of them above 0; a stage with 0 gets no file.
    Returns:
        The files of each stage in `shares`.
    """
    # In the order of STAGES, so that the order in which shares are written has no effect.
    stages = [stage for stage in STAGES if shares.get(stage, 0) > 0]
    keys = [_position(meta.path, root) for meta in metas]
    if len(metas) < len(stages):
        chosen = _few(keys, stages)
    else:
        chosen = _many(keys, stages, [shares[stage] for stage in stages])
    return {stage: [metas[index] for index in sorted(chosen.get(stage, ()))] for stage in shares}


def _position(path: str, root: str | Path) -> float:
    """Hash a file to a number in [0, 1), uniform over files."""
    relative = os.path.relpath(path, root).replace(os.sep, "/")
    # Any change of this hash, the zero byte included, would move files between stages.
    digest = hashlib.blake2b(b"\0" + os.fsencode(relative), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


def _many(keys: list[float], stages: list[str], shares: list[float]) -> dict[str, set[int]]:
    bounds = np.cumsum(shares) / sum(shares)
    chosen: dict[str, set[int]] = {stage: set() for stage in stages}
    for index, number in enumerate(np.searchsorted(bounds[:-1], keys, side="right")):
        chosen[stages[number]].add(index)
    for stage in stages:
        if not chosen[stage]:
            largest = max(stages, key=lambda s: len(chosen[s]))  # the first of equals
            moved = min(chosen[largest], key=lambda i: (keys[i], i))
            chosen[largest].remove(moved)
            chosen[stage].add(moved)
    return chosen


def _few(keys: list[float], stages: list[str]) -> dict[str, set[int]]:
    everything = set(range(len(keys)))
    if len(keys) == 1:
        logger.warning(
            "There is only one file: %s share it, so their metrics show how well it was memorised. "
            "Cut it up, or give a stage files of its own.", ", ".join(stages),
        )  # fmt: skip
        return dict.fromkeys(stages, everything)
    held_out = min(everything, key=lambda i: (keys[i], i))
    logger.warning(
        "%d files for %d stages: %s share one.", len(keys), len(stages), ", ".join(stages[1:])
    )
    return dict.fromkeys(stages[1:], {held_out}) | {stages[0]: everything - {held_out}}
