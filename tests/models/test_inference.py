"""Models made ready for inference."""

from __future__ import annotations

import pytest
import torch
from recipes import audio, loaded

from adversarial_trainer.models.pretrained.codec import prepare_inference
from adversarial_trainer.models.streaming import StreamingEncoder

RECIPES = {
    "tiny": ["tiny", "model.seanet.lstm=1"],
    "48 kHz": ["encodec_48khz", "model.seanet.n_filters=4", "model.seanet.dimension=8"],
    "zeros": ["tiny", "model.seanet.pad_mode=constant", "model.causal=true"],
    "replicate": ["tiny", "model.causal=false", "model.seanet.pad_mode=replicate"],
    "dac": ["tiny", "model=tiny_dac", "model.dac.lstm=1"],
    "bigcodec": ["tiny", "model=tiny_dac", "model.dac.activation=AntiAliased"],
}


@pytest.mark.parametrize("name", RECIPES)
@torch.no_grad()
def test_same_codes_and_audio(name: str) -> None:
    model = loaded(*RECIPES[name]).model
    signals = [audio(model.channels, length, 16000)[None] for length in (1, 5003)]
    expected = [(model.encode(x), model(x).x) for x in signals]
    assert prepare_inference(model) is model
    for x, ((codes, scale), y) in zip(signals, expected, strict=True):
        assert torch.equal(model.encode(x)[0], codes)
        found = model.decode(codes, scale)[..., : x.shape[-1]]
        assert (found - y).abs().max() < 2e-5 * y.abs().max()
    if name == "tiny":
        encoder = StreamingEncoder(model)
        chunks = [*encoder.push(x), *encoder.finish()]
        assert torch.equal(torch.cat([chunk.codes for chunk in chunks], -1), codes)


@torch.no_grad()
def test_convolutions_that_pad_by_themselves_stay() -> None:
    """Of encoders of one's own."""
    model, x = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3, padding=1)), torch.randn(1, 1, 20)
    y = model(x)
    assert torch.equal(prepare_inference(model)(x), y)
