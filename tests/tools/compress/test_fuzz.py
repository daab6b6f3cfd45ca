"""Mutated files through the decoder of a small model."""

import io
import random

import pytest
import torch
from bitstreams import blocks_at
from mutations import mutate, recompute
from omegaconf import OmegaConf
from recipes import audio, codec

from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.tools.compress import AudioDecoder, encode_audio
from adversarial_trainer.tools.compress.bitstream import BitstreamReader
from adversarial_trainer.tools.compress.tables import get_coder

SMALL = ["model.seanet.n_filters=2", "model.seanet.dimension=8", "quantizer.n_q=2"]
RECIPES = [
    ["tiny", *SMALL, "quantizer.dropout_choices=null"],
    ["encodec_48khz", *SMALL, "quantizer.dropout_choices=null"],
]


def check(count: int, seed: int) -> None:
    """Audio as long as the reader says, or ValueError."""
    originals = []
    for recipe in RECIPES:
        model = codec(*recipe)
        coded = Codec(model, OmegaConf.create({}))
        x = audio(model.channels, int(3.3 * model.sample_rate), model.sample_rate)
        for coder in (None, get_coder(model, 2)):
            file = io.BytesIO()
            encode_audio(coded, [x], model.sample_rate, len(x), file, coder)
            originals.append((coded, file.getvalue()))
    decoded = lost = 0
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        coded, data = rng.choice(originals)
        _, data = mutate(data, rng)
        if data[:12] == originals[0][1][:12] and len(blocks_at(data)) > 1:
            data = bytes(recompute(bytearray(data), rng)) if rng.random() < 0.5 else data
        try:
            reader = BitstreamReader(io.BytesIO(data), salvage=True)
            samples = 0
            for block in AudioDecoder(coded, reader):
                assert block.isfinite().all()
                samples += block.shape[-1]
                if samples > 60 * reader.header.sample_rate:  # an hour of silence takes a while
                    break
            else:
                assert reader.length in (None, samples)
                decoded += 1
                lost += not reader.complete
        except ValueError as error:
            assert len(str(error)) < 600
    assert decoded > count / 5 and lost > count / 10
    print(f"{count} inputs: {decoded} decoded, {lost} of them with something lost")


@torch.no_grad()
def test_some_mutated_files() -> None:
    check(16, seed=1)


@pytest.mark.slow
@torch.no_grad()
def test_a_thousand_mutated_files() -> None:
    check(1000, seed=2)
