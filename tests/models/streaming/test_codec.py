"""Streaming encoder and decoder against the model on the whole signal."""

import copy

import pytest
import torch
from recipes import audio, check_codes, codec, pieces

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming import (
    EncodedChunk,
    SegmentedDecoder,
    StreamingDecoder,
    StreamingEncoder,
    get_decoder,
    get_encoder,
    streaming_obstacle,
)

SMALL = [
    *("model.seanet.n_filters=2", "model.seanet.dimension=8"),
    *("quantizer.n_q=4", "quantizer.dropout_choices=null"),
]
DAC = ["tiny", "model=tiny_dac", "model.dac.strides=[8,5]", "model.dac.dilations=[1]"]
RECIPES = {
    "encodec": ["encodec", *SMALL],
    "tiny": ["tiny"],
    "encodec_audiocraft": ["encodec_audiocraft", *SMALL],
    "stereo": ["tiny", "channels=2", "model.seanet.lstm=1"],
    "not causal": ["tiny", "model.causal=false", "model.seanet.lstm=2"],
    "replicate": ["tiny", "model.causal=false", "model.seanet.pad_mode=replicate"],
    "less delay": ["tiny", "model.decoder.trim_right_ratio=0.5"],
    "autoencoder": ["tiny", "quantizer=none"],
    "dac": ["tiny", "quantizer=dac_tiny"],
    "fsq": ["tiny", "quantizer=fsq_tiny"],
    "vae": ["tiny", "quantizer=vae"],
    "dac model": [*DAC, "quantizer=dac_tiny", "model.decoder.output_padding=false"],
    "causal dac model": [*DAC, "model.causal=true"],
    "bigcodec": [
        *DAC,
        "quantizer=dac_single",
        "model.dac.activation=AntiAliased",
        "model.dac.lstm=1",
    ],
}


def stream(model, x, longest, seed):
    """Codes and audio of `x` in random pieces."""
    encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
    chunks = [chunk for piece in pieces(x, longest, seed) for chunk in encoder.push(piece)]
    chunks += encoder.finish()
    codes = torch.cat([chunk.codes for chunk in chunks], -1)
    y = [decoder.push(EncodedChunk(piece)) for piece in pieces(codes, 9, seed)]
    return codes, torch.cat([*y, decoder.finish()], -1)


@torch.no_grad()
def check(model, lengths):
    """Random pieces of signals of all `lengths`; returns codes and audio of the last."""
    dtype = next(model.parameters()).dtype
    # float32 sums in another order for another length; relative to the largest sample.
    tolerance = 5e-6 if dtype == torch.float32 else 1e-12
    for length in lengths:
        x = audio(2 * model.channels, length).view(2, model.channels, length).to(dtype)
        codes, _ = model.encode(x)
        y = model.decode(codes)
        result = model(x)
        assert result.x.shape == x.shape and torch.equal(result.codes, codes)
        assert (result.x - y[..., :length]).abs().max() <= tolerance * y.abs().max()
        streamed, z = stream(model, x, max(1, length // 12), seed=length)
        assert streamed.shape == codes.shape and z.shape == y.shape
        if codes.is_floating_point():
            torch.testing.assert_close(streamed, codes, atol=tolerance, rtol=tolerance)
        elif dtype == torch.float64:
            assert torch.equal(streamed, codes)
        else:
            check_codes(model, x, streamed, codes)
            y = model.decode(streamed)
        assert (z - y).abs().max() <= tolerance * y.abs().max()
    if not codes.is_floating_point():  # it was a test of something
        assert all(len(book.unique()) > 8 for book in codes.unbind(1))
    assert y.std() > 0.01


@pytest.mark.parametrize("recipe", RECIPES)
def test_equals_the_whole_signal(recipe):
    model = codec(*RECIPES[recipe], dtype=torch.float64)
    hop = model.encoder.hop_length
    check(model, [1, 2, 5, hop - 1, hop, hop + 1, 7 * hop + 1, 5000])
    check(codec(*RECIPES[recipe]), [1, hop, 5000])


@torch.no_grad()
def test_frames_come_without_delay():
    """Each with its last sample, after the first ones that the padding needs (docs/streaming.md).

    Of two streams of one model, which do not see each other.
    """
    # The last convolution of the first two mirrors six frames at the start.
    for recipe, waiting in (("encodec", 7), ("tiny", 7), ("encodec_audiocraft", 1)):
        model = codec(*RECIPES[recipe])
        hop = model.encoder.hop_length
        x = audio(2, 12 * hop).view(2, 1, -1)
        pairs = [(StreamingEncoder(model), StreamingDecoder(model)) for _ in range(2)]
        expected, pushed, played = model.encode(x)[0], 0, 0
        for n, block in enumerate(x.split(hop, -1), start=1):
            for item, (encoder, decoder) in enumerate(pairs):
                for chunk in encoder.push(block[item : item + 1]):
                    assert torch.equal(
                        chunk.codes[0], expected[item, :, pushed : pushed + chunk.codes.shape[-1]]
                    )
                    frames, samples = chunk.codes.shape[-1], decoder.push(chunk).shape[-1]
            if n >= waiting:
                pushed, played = pushed + frames, played + samples
            assert (pushed, played) == ((n, n * hop) if n >= waiting else (0, 0))


def test_codecs_that_need_the_whole_signal():
    assert not streaming_obstacle(codec("tiny"))
    assert isinstance(get_encoder(codec("tiny")), StreamingEncoder)
    model = codec("encodec_48khz", "model.renormalize=false", "model.seanet.n_filters=2")
    assert streaming_obstacle(model)
    with pytest.raises(ValueError, match="encoder.model.0.conv.norm: GroupNorm"):
        StreamingEncoder(model)
    model = copy.deepcopy(codec("tiny"))
    model.decoder = torch.nn.Sequential(model.decoder)  # of one's own, without `step`
    assert isinstance(get_decoder(model), SegmentedDecoder)
    with pytest.raises(ValueError, match="decoder: a Sequential has no method `step`"):
        StreamingDecoder(model)
    model = codec("tiny", "model.causal=false", "model.renormalize=true")
    for kind in (StreamingEncoder, StreamingDecoder):
        with pytest.raises(ValueError, match="renormalize"):
            kind(model)


def test_a_model_with_methods_of_its_own_is_coded_by_them() -> None:
    """Not by its encoder and decoder alone, which would leave out what those methods do."""

    class Louder(EncodecModel):
        def postprocess(self, x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
            return 2 * super().postprocess(x, scale)

    model = copy.deepcopy(codec("tiny"))
    model.__class__ = Louder
    assert "Louder has a postprocess of its own" in str(streaming_obstacle(model))


def test_errors():
    model = codec("tiny")
    encoder, decoder = get_encoder(model), get_decoder(model)
    for x in (torch.zeros(1, 2, 9), torch.zeros(1, 9), torch.zeros(1, 1, 9).long()):
        with pytest.raises(ValueError, match=r"\[B, C, T\] with C=1"):
            encoder.push(x)
    with pytest.raises(ValueError, match="at least one sample"):
        encoder.finish()
    assert encoder.push(torch.zeros(1, 1, 0)) == []
    with pytest.raises(ValueError, match="at least one sample"):
        encoder.finish()
    encoder.push(torch.zeros(1, 1, 2000))
    x = torch.zeros(1, 1, 200)
    x[..., 60] = torch.nan
    with pytest.raises(ValueError, match=r"sample 2060 of channel 0 is nan, at 0\.12875 s"):
        encoder.push(x)
    with pytest.raises(ValueError, match="nothing to decode"):
        decoder.finish()
    for chunk in encoder.finish():
        decoder.push(chunk)
    decoder.finish()
    with pytest.raises(ValueError, match="ended: make another StreamingEncoder"):
        encoder.push(torch.zeros(1, 1, 9))
    with pytest.raises(ValueError, match="ended: make another StreamingDecoder"):
        decoder.push(chunk)
    decoder = get_decoder(model)
    with pytest.raises(ValueError, match="scale"):
        decoder.push(EncodedChunk(torch.zeros(1, 8, 3).long(), torch.ones(1, 1)))
    with pytest.raises(ValueError, match=r"0\.\.255, got 0\.\.256"):
        decoder.push(EncodedChunk(torch.full((1, 2, 3), 256) * torch.tensor([0, 1, 1])))
    training = codec("tiny", seed=2).train()
    for kind in (StreamingEncoder, StreamingDecoder):
        with pytest.raises(ValueError, match=r"model\.eval\(\)"):
            kind(training)
