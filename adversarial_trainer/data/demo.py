"""The embedded corpus, `dset=demo`: music-like and speech-like sound, made at first use."""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from adversarial_trainer.audio import write

from .synth import piece, utterance

logger = logging.getLogger(__name__)


def build(
    folder: str | Path,
    files: int = 96,
    duration: float = 10.0,
    seed: int = 2036,
    progress: bool = True,
) -> Path:
    """Make the corpus in `folder`, unless it is there, and return `folder`.

    Half of the `files` are music, half speech, of `duration` seconds each: 16-bit wav, 24 kHz mono
    but for some 44.1 kHz stereo and 48 kHz mono, peaks between -12 and -3 dBFS. The same arguments
    give the same bytes. The folder appears complete or not at all.
    """
    folder = Path(folder)
    if folder.exists():
        return folder
    logger.info("making the demo corpus in %s", folder)
    temporary = folder.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        for number in tqdm(range(files), "demo corpus", unit="file", disable=not progress or None):
            name, wav, rate = _file(seed, number, duration)
            write(temporary / name, torch.from_numpy(wav), rate)
        os.rename(temporary, folder)
    except OSError:
        if not folder.exists():  # otherwise another process was faster
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
