"""Encoder and decoder through torch.compile are those without it."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from recipes import audio, loaded

from adversarial_trainer.models.compiled import SHAPES, CompiledHalf, compile_inference
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.inference import prepare_inference
from adversarial_trainer.models.streaming import StreamingEncoder

SMALL = ["model.seanet.n_filters=4", "model.seanet.dimension=16", "model.seanet.ratios=[4,2]"]
MODELS = {
    "an LSTM between": ("tiny", *SMALL, "model.seanet.lstm=1"),
    "48 kHz, scaled": ("encodec_48khz", *SMALL, "model.seanet.lstm=0"),
}


@pytest.fixture(autouse=True)
def forget() -> None:
    """Graphs of an equal model, which would be taken."""
    torch._dynamo.reset()


def pair(name: str, backend: str, repeats: int = 1) -> tuple[EncodecModel, EncodecModel]:
    """The same model as it is and compiled."""
    plain = prepare_inference(loaded(*MODELS[name]).model)
    ours = copy.deepcopy(plain)
    compile_inference(ours, backend, repeats)
    return plain, ours


def graphs(model: EncodecModel) -> int:
    assert isinstance(model.encoder.forward, CompiledHalf)
    return model.encoder.forward.done.graphs


def compare(name: str, backend: str) -> None:
    plain, ours = pair(name, backend)
    modes = {(1, 4001): torch.no_grad, (2, 4800): torch.inference_mode}
    for (batch, length), mode in modes.items():
        x = audio(batch * plain.channels, length, plain.sample_rate)
        x = x.view(batch, plain.channels, -1)
        with mode():
            codes, scale = plain.encode(x)
            found, found_scale = ours.encode(x)
            assert torch.equal(found, codes) and codes.unique().numel() > 20
            assert scale is None or torch.equal(scale, found_scale)
            y = plain.decode(codes, scale)
            assert (ours.decode(codes, scale) - y).abs().max() < 1e-5 * y.abs().max()
    # Each length, both halves; an LSTM divides a half.
    assert graphs(ours) == 2 * 2 * (2 if "LSTM" in name else 1)


@pytest.mark.parametrize(
    ("name", "backend"), [("an LSTM between", "eager"), ("48 kHz, scaled", "aot_eager")]
)
def test_codes_and_audio(name: str, backend: str) -> None:
    """Through all of torch.compile but its code generator."""
    compare(name, backend)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_codes_and_audio_of_inductor(name: str) -> None:
    compare(name, "inductor")


@torch.no_grad()
def test_only_what_comes_often(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plain, ours = pair("48 kHz, scaled", "eager", repeats=3)

    def encode(length: int) -> int:
        """Graphs so far, after audio of that length."""
        x = audio(2, length, 48000)[None]
        assert torch.equal(ours.encode(x)[0], plain.encode(x)[0])
        return graphs(ours)

    assert [encode(length) for length in (1000, 2000, 1000, 2000)] == [0] * 4
    assert [encode(1000) for _ in range(3)] == [1] * 3
    assert "torch.compile: 1 graphs so far, in " in caplog.text
    assert [encode(2000), encode(2000)] == [2, 2] and SHAPES == 2
    assert [encode(3000) for _ in range(5)] == [2] * 5  # no more lengths than these two
    assert encode(1000) == 2


def test_gradients_go_through_the_model_as_it_was() -> None:
    _, ours = pair("48 kHz, scaled", "eager")
    z = torch.randn(1, 16, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(ours.decoder(z).square().sum(), z)
    assert gradient.isfinite().all() and gradient.any() and graphs(ours) == 0


def test_streaming_goes_on_without() -> None:
    plain, ours = pair("an LSTM between", "eager")
    x = audio(1, 9000, 16000)[None]
    encoder = StreamingEncoder(ours)
    codes = torch.cat([chunk.codes for chunk in [*encoder.push(x), *encoder.finish()]], -1)
    with torch.no_grad():
        assert torch.equal(codes, plain.encode(x)[0])
    assert graphs(ours) == 0


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(ValueError, match="compile: .* no /nowhere/c.*or go without it"):
        loaded("tiny").prepare(compile=True)
