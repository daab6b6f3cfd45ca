"""The embedded corpus, `dset=demo`: music-like and speech-like sound, made at first use."""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from adversarial_trainer.audio import write

from .synth_music import piece
from .synth_speech import utterance

logger = logging.getLogger(__name__)

# Raised with each change of the sound, so that a corpus made before it is made again.
VERSION = 1
MARKER = "corpus.json"


def build(
    folder: str | Path,
    files: int = 32,
    duration: float = 10.0,
    seed: int = 2036,
    progress: bool = True,
) -> Path:
    """Make the corpus in `folder`, unless it is there; about 4 s for the default on one core.

    Half of the `files` are music, half speech, of `duration` seconds each: 16-bit wav, 24 kHz mono
    but for some 44.1 kHz stereo and 48 kHz mono, peaks between -12 and -3 dBFS. The same arguments
    give the same bytes. The folder appears complete or not at all.

    Returns:
        `folder`.
    Raises:
        ValueError: it holds something else.
    """
    folder = Path(folder)
    recipe = {"version": VERSION, "files": files, "duration": duration, "seed": seed}
    if files < 1 or not duration > 0:
        raise ValueError(f"expected files >= 1 and duration > 0, got {files} and {duration}")
    if _is_complete(folder, recipe):
        return folder
    _check_replaceable(folder)
    logger.info("making the demo corpus in %s", folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{uuid.uuid4().hex}.tmp"
    sizes = {}
    try:
        for number in tqdm(range(files), desc="demo corpus", unit="file", disable=not progress):
            name, wav, rate = _file(seed, number, duration)
            write(temporary / name, torch.from_numpy(wav), rate)
            sizes[name] = (temporary / name).stat().st_size
        (temporary / MARKER).write_text(json.dumps({"recipe": recipe, "sizes": sizes}, indent=1))
        _put(temporary, folder, recipe)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _file(seed: int, number: int, duration: float) -> tuple[str, np.ndarray, int]:
    """Name, `[C, T]` and rate of one file. Each has its own random numbers."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, number])))
    kind, index = ("music", "speech")[number % 2], number // 2
    rate, channels = 24_000, 1
    if index % 4 == 3:
        rate, channels = (44_100, 2) if kind == "music" else (48_000, 1)
    synthesise = piece if kind == "music" else utterance
    wav = synthesise(rng, rate, channels, round(duration * rate))
    peak = 10 ** (-rng.uniform(3, 12) / 20)
    return f"{kind}/{kind}_{index:02d}.wav", wav * (peak / np.abs(wav).max()), rate


def _is_complete(folder: Path, recipe: Mapping[str, object]) -> bool:
    marker = _marker(folder)
    return marker.get("recipe") == recipe and all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in marker["sizes"].items()
    )


def _marker(folder: Path) -> dict:
    try:
        return json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return {}


def _check_replaceable(folder: Path) -> None:
    """What is replaced is deleted, so it must be a corpus and nothing else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder}: cannot make the demo corpus here, it is a file")
    ours = {MARKER, *_marker(folder).get("sizes", {})}
    present = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
    if others := sorted(present - ours):
        raise ValueError(
            f"{folder}: cannot make the demo corpus here, the folder holds other files: "
            f"{', '.join(others[:3])}{' ...' if len(others) > 3 else ''}"
        )


def _put(temporary: Path, folder: Path, recipe: Mapping[str, object]) -> None:
    """Move the finished corpus into place; another process may have been faster."""
    old = folder.parent / f".{uuid.uuid4().hex}.tmp"
    for _ in range(10):
        try:
            os.rename(temporary, folder)  # replaces an empty folder, fails on a full one
            return
        except OSError:
            if _is_complete(folder, recipe):
                return
        try:
            os.rename(folder, old)
        except FileNotFoundError:
            continue
        shutil.rmtree(old, ignore_errors=True)
    raise OSError(f"{folder}: could not be replaced")
