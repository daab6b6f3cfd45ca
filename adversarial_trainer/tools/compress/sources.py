"""Audio to encode: files of any length and pipes."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from adversarial_trainer.audio import info
from adversarial_trainer.models.streaming import read_blocks

from .jobs import PIPE
from .wav_pipe import read_format, read_samples


class Audio(NamedTuple):
    """Its rate in Hz, its channels, and blocks `[channels, T]`."""

    sample_rate: int
    channels: int
    blocks: Iterator[torch.Tensor]


@contextmanager
def open_source(source: str) -> Iterator[Audio]:
    """A file, or stdin for `-`: a WAV as it comes in, anything else from a temporary file."""
    if source != PIPE:
        yield _of_file(source)
        return
    pipe = sys.stdin.buffer
    wav, head = read_format(pipe)
    if wav is not None:
        yield Audio(wav.sample_rate, wav.channels, read_samples(pipe, wav))
        return
    if not head:
        raise ValueError("stdin is empty")
    with tempfile.NamedTemporaryFile(prefix="adversarial-trainer-") as file:
        file.write(head)
        shutil.copyfileobj(pipe, file)
        file.flush()
        yield _of_file(file.name)


def _of_file(path: str) -> Audio:
    about = info(path)
    return Audio(about.sample_rate, about.channels, read_blocks(path))
