"""The embedded corpus, `dset=demo`: music-like and speech-like sound, made at first use."""

from __future__ import annotations

import json
import logging
import os
import re
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

# Raised with each change of the sound, so that an older corpus is made again.
VERSION = 2
MARKER = "corpus.json"


def build(
    folder: str | Path,
    files: int = 32,
    duration: float = 10.0,
    seed: int = 2036,
    progress: bool = True,
) -> Path:
    """Make the corpus in `folder`, unless it is there.

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
    try:
        for number in tqdm(range(files), desc="demo corpus", unit="file", disable=not progress):
            name, wav, rate = _file(seed, number, duration)
            write(temporary / name, torch.from_numpy(wav), rate)
        (temporary / MARKER).write_text(json.dumps(recipe))
        if not _is_complete(folder, recipe):  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(temporary, folder)
    except OSError:
        if not _is_complete(folder, recipe):
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _file(seed: int, number: int, duration: float) -> tuple[str, np.ndarray, int]:
    """Return the name, `[C, T]` and rate of one file, from random numbers of its own."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, number])))
    kind, index = ("music", "speech")[number % 2], number // 2
    special = index % 4 == 3
    if kind == "music":
        rate, channels = (44_100, 2) if special else (24_000, 1)
        wav = piece(rng, rate, channels, round(duration * rate))
    else:
        rate = 48_000 if special else 24_000
        wav = utterance(rng, rate, round(duration * rate))
    peak = 10 ** (-rng.uniform(3, 12) / 20)
    return f"{kind}/{kind}_{index:02d}.wav", wav * (peak / np.abs(wav).max()), rate


def _is_complete(folder: Path, recipe: Mapping[str, object]) -> bool:
    try:
        made = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return False
    return made == recipe and len(list(folder.glob("*/*.wav"))) == recipe["files"]


def _check_replaceable(folder: Path) -> None:
    """Raise ValueError if the folder, which is about to be deleted, holds other files."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: cannot make the demo corpus here, it is a file")
    present = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())
    ours = re.compile(rf"(music/music|speech/speech)_\d+\.wav|{re.escape(MARKER)}")
    if others := [name for name in present if not ours.fullmatch(name)]:
        raise ValueError(
            f"{folder}: cannot make the demo corpus here, the folder holds other files: "
            f"{', '.join(others[:3])}{' ...' if len(others) > 3 else ''}"
        )
