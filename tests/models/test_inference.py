"""Models made ready for inference."""

from __future__ import annotations

import pytest
import torch
from recipes import audio, loaded

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.inference import prepare_inference
from adversarial_trainer.models.streaming import StreamingEncoder
from adversarial_trainer.modules.norm import fold_weight_norm


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


def change(model: EncodecModel, how: str) -> None:
    """Put other values in the codebooks."""
    others = {k: v.flip(0) if k.endswith("embed") else v for k, v in model.state_dict().items()}
    books = model.quantizer.codebooks
    if how == "load":
        model.load_state_dict(others)
    elif how == "start":
        for book in books:
            book.start(book.embed.flip(0), book.cluster_size)
    elif how == "train":
        model.train()
        for book in books:
            book.embed.copy_(book.embed.flip(0))
        model.eval()
    else:
        model.double()


@torch.no_grad()
@pytest.mark.parametrize("how", ["load", "start", "train", "double"])
def test_codebooks_that_change_are_not_those_kept(model: EncodecModel, how: str) -> None:
    """Entries in another order have other norms: stale ones give other codes."""
    fresh = fold_weight_norm(loaded("tiny").model)
    prepare_inference(model)
    change(model, how)
    change(fresh, how)
    z = torch.randn(2, fresh.quantizer.dimension, 50)
    z = z.double() if how == "double" else z
    assert torch.equal(model.quantizer.encode(z), fresh.quantizer.encode(z))
