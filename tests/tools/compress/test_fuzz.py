"""Mutated files through the decoder of a small model."""

import io
import random

import torch
from bitstreams import blocks_at
from mutations import mutate, recompute
from omegaconf import OmegaConf
from recipes import audio, codec

from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.tools.compress.bitstream import BitstreamReader
from adversarial_trainer.tools.compress.decode import decode_audio
from adversarial_trainer.tools.compress.encode import encode_audio, get_coder

COUNT = 12
OPTIONS = [
    *("model.seanet.n_filters=2", "model.seanet.dimension=8"),
    *("quantizer.n_q=2", "quantizer.dropout_choices=null"),
]


@torch.no_grad()
def test_mutated_files() -> None:
    """They give as much audio as the reader says, or a ValueError."""
    originals = []
    for recipe in ("tiny", "encodec_48khz"):
        model = codec(recipe, *OPTIONS)
        coded = Codec(model, OmegaConf.create({}))
        x = audio(model.channels, int(2.2 * model.sample_rate), model.sample_rate)
        for coder in (None, get_coder(model, 2)):
            file = io.BytesIO()
            encode_audio(coded, [x], model.sample_rate, len(x), file, coder)
            originals.append((coded, file.getvalue()))
    decoded = lost = 0
    for number in range(COUNT):
        rng = random.Random(number)
        coded, data = rng.choice(originals)
        _, data = mutate(data, rng)
        if data[:12] == originals[0][1][:12] and len(blocks_at(data)) > 1 and rng.random() < 0.5:
            data = bytes(recompute(bytearray(data), rng))
        try:
            reader = BitstreamReader(io.BytesIO(data), salvage=True)
            samples = 0
            for block in decode_audio(coded, reader):
                assert block.isfinite().all()
                samples += block.shape[-1]
                if samples > 60 * reader.header.sample_rate:  # up to an hour of silence
                    break
            else:
                assert reader.length in (None, samples)
                decoded += 1
                lost += not reader.complete
        except ValueError as error:
            assert len(str(error)) < 600
    assert decoded > COUNT / 5 and lost > COUNT / 10
