"""Codecs at the frame rate, piece by piece and whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import audio, codec, pieces

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming import (
    EncodedChunk,
    SegmentedEncoder,
    StreamingDecoder,
    StreamingEncoder,
    get_encoder,
)
from adversarial_trainer.modules.convnext import ConvNeXtBlock
from adversarial_trainer.modules.istft import ISTFTDecoder, STFTEncoder
from adversarial_trainer.modules.mdct import MDCTDecoder, MDCTEncoder
from adversarial_trainer.modules.streaming import State, StreamingModule

TINY = ("tiny", "model=tiny_mdct")
ISTFT = (
    *("tiny", "model=istft", "model.istft.hidden_dim=16", "model.istft.intermediate_dim=32"),
    *("model.istft.dimension=16", "model.istft.n_fft=480", "model.istft.hop_length=160"),
)
RECIPES = {
    "mdct": (*TINY, "model.causal=true"),
    "mdct, not causal": TINY,
    "istft": (*ISTFT, "model.causal=true"),
    "istft, stereo": (*ISTFT, "channels=2"),
}


@torch.no_grad()
def check(layer: StreamingModule, channels: int, length: int, longest: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = layer.double().eval()
    state: State = {}
    x = torch.randn(2, channels, length, dtype=torch.float64)
    outputs = []
    for piece in pieces(x, longest, seed):
        buffer = piece.clone()
        outputs.append(layer.step(buffer, state, False).clone())
        buffer.fill_(torch.nan)
    outputs.append(layer.step(x[..., :0], state, True))
    torch.testing.assert_close(torch.cat(outputs, -1), layer(x), rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["mdct", "istft", "block"]),
    causal=st.booleans(),
    channels=st.integers(1, 2),
    stride=st.integers(1, 3),
    overlaps=st.integers(2, 5),
    length=st.integers(1, 80),
    longest=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_layers(kind, causal, channels, stride, overlaps, length, longest, seed) -> None:
    sizes = dict(dimension=3, hidden_dim=4, intermediate_dim=6, num_layers=2, kernel_size=3)
    sizes |= dict(channels=channels, causal=causal, layer_scale=0.5)
    if kind == "block":
        check(ConvNeXtBlock(4, 6, causal=causal), 4, length, longest, seed)
        return
    if kind == "mdct":
        sizes |= dict(num_coefficients=6, stride=stride, companding=True)
        layers = MDCTEncoder(**sizes), MDCTDecoder(**sizes)
    else:
        sizes |= dict(n_fft=overlaps * 6, hop_length=6)
        layers = STFTEncoder(**sizes), ISTFTDecoder(**sizes)
    check(layers[0], channels, length, longest, seed)
    check(layers[1], 3, length, longest, seed)


def stream(model: EncodecModel, x: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
    chunks = [chunk for piece in pieces(x, 500, seed) for chunk in encoder.push(piece)]
    codes = torch.cat([chunk.codes for chunk in [*chunks, *encoder.finish()]], -1)
    audio = [decoder.push(EncodedChunk(piece)) for piece in pieces(codes, 9, seed)]
    return codes, torch.cat([*audio, decoder.finish()], -1)


@pytest.mark.parametrize("recipe", RECIPES)
@torch.no_grad()
def test_codec_equals_the_whole_signal(recipe: str) -> None:
    model = codec(*RECIPES[recipe], dtype=torch.float64)
    for length in (1, 160, 5003):
        x = audio(2 * model.channels, length, 16000).view(2, model.channels, length).double()
        result = model(x)
        assert result.x.shape == x.shape
        codes, y = stream(model, x, seed=length)
        assert torch.equal(codes, result.codes)
        torch.testing.assert_close(y[..., :length], result.x, rtol=1e-9, atol=1e-9)
    assert y.std() > 1e-3 and all(len(book.unique()) > 8 for book in codes.unbind(1))


@torch.no_grad()
def test_delay_is_the_overlap() -> None:
    """A sample comes out (docs/streaming.md) when the window after its frame is complete: half the
    overlap later in the encoder, and half later in the decoder."""
    for recipe, overlap in (("mdct", 160), ("istft", 320)):
        model = codec(*RECIPES[recipe])
        encoder, decoder, out = StreamingEncoder(model), StreamingDecoder(model), 0
        for n, block in enumerate(audio(1, 3200, 16000)[None].split(160, -1), start=1):
            for chunk in encoder.push(block):
                out += decoder.push(chunk).shape[-1]
            # Whole frames; the first half of the overlap lies ahead of the signal.
            frames = max(0, (n * 160 - overlap // 2) // 160)
            assert out == max(0, frames * 160 - overlap // 2)


def test_the_response_norm_needs_the_whole_signal() -> None:
    small = ("model.mdct.hidden_dim=8", "model.mdct.intermediate_dim=8", "model.mdct.stride=4")
    model = codec("tiny", "model=mdct", *small)
    assert isinstance(get_encoder(model), SegmentedEncoder)
    message = r"encoder\.model.*GlobalResponseNorm averages over the whole signal"
    with pytest.raises(ValueError, match=message):
        StreamingEncoder(model)
