"""Divide files among the stages of a run by the hash of their names."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .manifest import AudioMeta

logger = logging.getLogger(__name__)

STAGES = ("train", "valid", "evaluate", "generate")
DEFAULT_SHARES: Mapping[str, float] = {
    "train": 0.94, "valid": 0.02, "evaluate": 0.02, "generate": 0.02
}  # fmt: skip


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
