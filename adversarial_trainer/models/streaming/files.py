"""Audio files in blocks, so that their length does not matter."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from adversarial_trainer import audio
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming.interface import check_finite
from adversarial_trainer.models.streaming.pipeline import reconstruct_stream

logger = logging.getLogger(__name__)


def read_blocks(path: str | Path, seconds: float = 1.0) -> Iterator[torch.Tensor]:
    """Yield the audio of a file as float32 blocks `[C, T]`; `audio.info` knows its rate.

    Raises as `audio.open_audio` does, where a file is broken inside only when that is reached.
    """
    with audio.open_audio(path) as file:
        size = max(1, round(seconds * file.samplerate))
        while len(data := file.read(size, dtype="float32", always_2d=True)):
            yield torch.from_numpy(data.T.copy())  # [T, C] -> [C, T]


def write_blocks(
    path: str | Path, blocks: Iterable[torch.Tensor], sample_rate: int, subtype: str | None = None
) -> int:
    """Write blocks `[C, T]` in the format of the path's extension; atomic.

    Samples beyond [-1, 1] are cut off, with a warning at the end; float subtypes keep them.

    Args:
        subtype: as for `audio.write`.

    Returns:
        Samples per channel written.
    """
    format_, subtype = audio.choose_format(path, subtype)
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        raise ValueError(f"{path}: nothing to write")
    length, peak = 0, 0.0
    with audio.replacing(path) as temporary:
        try:
            file = soundfile.SoundFile(
                str(temporary), "w", sample_rate, first.shape[0], subtype, format=format_
            )
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        with file:
            for block in itertools.chain([first], blocks):
                check_finite(block, length, sample_rate)
                data = block.detach().to("cpu", torch.float64).numpy().T  # [C, T] -> [T, C]
                length += len(data)
                if subtype not in ("FLOAT", "DOUBLE"):
                    peak = max(peak, float(np.abs(data).max(initial=0.0)))
                    data = data.clip(-1, 1)
                # libsndfile's Vorbis encoder overflows the stack on long ones.
                for begin in range(0, len(data), 1 << 16):
                    part = audio.to_subtype(data[begin : begin + (1 << 16)], subtype)
                    file.write(np.ascontiguousarray(part))
    if peak > 1:
        logger.warning("%s: samples beyond [-1, 1] were cut off, peak %.3f", path, peak)
    return length


def reconstruct_file(
    model: EncodecModel, source: str | Path, target: str | Path, subtype: str | None = None
) -> int:
    """Write what the codec makes of the file `source` to `target`: its rate, its length, the
    model's channels. Returns the samples per channel."""
    rate = audio.info(source).sample_rate
    blocks = reconstruct_stream(model, read_blocks(source), rate)
    return write_blocks(target, blocks, rate, subtype)
