"""Samples of a run: audio files and spectrograms of originals and reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adversarial_trainer import audio
from adversarial_trainer.data import FileDataset
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming import decode_signal, encode_signal
from adversarial_trainer.tools.evaluate import Opus
from adversarial_trainer.tools.report.pictures import draw_spectrograms

# Characters that some file systems, terminals or loggers do not allow in names.
_NOT_IN_NAMES = '/\\:*?"<>|'
_LONGEST = 150  # bytes of a file's name in those of its samples; 255 is the limit of a name


@dataclass
class Sample:
    """Original and reconstructions of one file.

    Attributes:
        name: its stem, made unique.
        waves: 'original', '<bandwidth>kbps' and 'opus-<measured>kbps' -> waveform `[C, T]`.
        picture: spectrograms of the original and of the lowest and highest bandwidth, `[3, H, W]`.
    """

    name: str
    waves: dict[str, torch.Tensor]
    picture: torch.Tensor


def sample_name(index: int, path: str) -> str:
    """Return the beginning of names of the samples of `path`: printable, short, no separators."""
    stem = Path(path).stem
    legible = "".join(c if c.isprintable() and c not in _NOT_IN_NAMES else "_" for c in stem)
    return f"{index:02d}_{legible.encode()[:_LONGEST].decode(errors='ignore')}"


@torch.no_grad()
def generate_samples(
    model: EncodecModel,
    files: FileDataset,
    folder: Path,
    counts: Sequence[int],
    like: torch.Tensor,
    opus: Opus | None = None,
) -> list[Sample]:
    """Write originals, reconstructions (wav) and spectrograms (PNG) of all `files` to `folder`.

    Args:
        model: in eval mode.
        counts: numbers of codebooks to reconstruct with, rising.
        like: has the model's device and type.
        opus: to have beside them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for index, wav, meta in files.readable():
        name = sample_name(index, meta.path)
        chunks = encode_signal(model, wav[None].to(like))
        waves = {"original": wav}
        for n in counts:
            decoded = decode_signal(model, chunks, wav.shape[-1], n)
            waves[f"{model.bandwidth_of(n):.2f}kbps"] = decoded[0].cpu()
        titles = list(waves)
        if opus is not None:
            for rate in opus.rates:
                decoded, measured = opus(wav, model.sample_rate, rate)
                waves[f"opus-{measured:.2f}kbps"] = decoded
        for title, wave in waves.items():
            audio.write(folder / f"{name}_{title}.wav", wave, model.sample_rate)
        shown = {t: waves[t] for t in dict.fromkeys([titles[0], titles[1], titles[-1]])}
        picture = draw_spectrograms(shown, model.sample_rate, folder / f"{name}_spectrograms.png")
        samples.append(Sample(name, waves, picture))
    return samples
