"""Models made ready for inference."""

from __future__ import annotations

import pytest
import torch
from recipes import audio, loaded

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.inference import prepare_inference
from adversarial_trainer.models.streaming import StreamingEncoder


@pytest.fixture
def model() -> EncodecModel:
    return loaded("tiny").model


@torch.no_grad()
def test_same_codes_and_audio(model: EncodecModel) -> None:
    x = audio(1, 5003, 16000)[None]
    codes = model.encode(x)[0]
    y = model.decode(codes)
    assert prepare_inference(model) is model
    assert torch.equal(model.encode(x)[0], codes)
    assert (model.decode(codes) - y).abs().max() < 2e-6 * y.abs().max()
    encoder = StreamingEncoder(model)
    chunks = [*encoder.push(x), *encoder.finish()]
    assert torch.equal(torch.cat([chunk.codes for chunk in chunks], -1), codes)
