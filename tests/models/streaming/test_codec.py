"""Streaming encoder and decoder against the model on the whole signal."""

import copy
import pickle

import pytest
import torch
from recipes import audio, check_codes, codec, pieces

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming import (
    EncodedChunk,
    SegmentedDecoder,
    StreamingDecoder,
    StreamingEncoder,
    codec_latency,
    get_decoder,
    get_encoder,
    streaming_obstacle,
)
from adversarial_trainer.modules.norm import fold_weight_norm

SMALL = [
    *("model.seanet.n_filters=2", "model.seanet.dimension=8"),
    *("quantizer.n_q=4", "quantizer.dropout_choices=null"),
]
RECIPES = {
    "encodec": ["encodec", *SMALL],
    "tiny": ["tiny"],
    "encodec_audiocraft": ["encodec_audiocraft", *SMALL],
    "stereo": ["tiny", "channels=2", "model.seanet.lstm=1"],
    "not causal": ["tiny", "model.causal=false", "model.seanet.lstm=2"],
    "replicate": ["tiny", "model.causal=false", "model.seanet.pad_mode=replicate"],
    "less delay": ["tiny", "model.decoder.trim_right_ratio=0.5"],
    "layer norm": [
        *("tiny", "model.seanet.norm=layer_norm", "+model.seanet.norm_params.eps=1e-3"),
        "model.seanet.disable_norm_outer_blocks=1",
    ],
    "autoencoder": ["tiny", "quantizer=none"],
}


def stream(encoder, decoder, x, longest, seed):
    """Codes and audio of `x` in random pieces."""
    chunks = [chunk for piece in pieces(x, longest, seed) for chunk in encoder.push(piece)]
    chunks += encoder.finish()
    codes = torch.cat([chunk.codes for chunk in chunks], -1)
    y = [decoder.push(EncodedChunk(piece)) for piece in pieces(codes, 9, seed)]
    return codes, torch.cat([*y, decoder.finish()], -1)


@torch.no_grad()
def check(model, lengths):
    """Random pieces of signals of all `lengths`; returns codes and audio of the last."""
    encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
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
        streamed, z = stream(encoder, decoder, x, max(1, length // 12), seed=length)
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


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["encodec", "encodec_audiocraft"])
def test_the_whole_size_equals_the_whole_signal(recipe):
    check(codec(recipe), [1, 320, 24000])
    check(codec(recipe, dtype=torch.float64), [321, 12345])


@torch.no_grad()
def test_folded_weights_and_one_stream_a_signal():
    model = codec("tiny", seed=1)
    x = audio(1, 5000)[None]
    expected = StreamingEncoder(model).push(x)
    other, encoder = StreamingEncoder(model), StreamingEncoder(fold_weight_norm(model))
    other.push(torch.randn(1, 1, 777))  # two streams of one model do not see each other
    for ours, theirs in zip(encoder.push(x), expected, strict=True):
        assert torch.equal(ours.codes, theirs.codes)


@pytest.mark.parametrize("recipe", RECIPES)
@torch.no_grad()
def test_latency_is_what_it_says(recipe):
    """One sample less than it says, and the frame is not there; likewise for the audio."""
    model = codec(*RECIPES[recipe])
    hop = model.encoder.hop_length
    encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
    latency, total = encoder.latency, codec_latency(encoder, decoder)
    assert latency.first_ms == pytest.approx(1000 * latency.first / model.sample_rate)
    assert latency.steady_ms == pytest.approx(1000 * latency.steady / model.sample_rate)

    pushed = frames = samples = 0
    for frame in (0, 1, 6, 7, 12, 20):  # counted from 0
        due = max(latency.first, frame * hop + latency.steady)
        for end in (due - 1, due):
            x = audio(model.channels, max(0, end - pushed))[None]
            pushed = max(pushed, end)
            for chunk in encoder.push(x):
                frames += chunk.codes.shape[-1]
                samples += decoder.push(chunk).shape[-1]
            if pushed == end < due:
                assert frames <= frame
            assert (samples > 0) == (pushed >= total.first)
        assert frames > frame
    # One more sample of the signal, and the next frame would be due in less than a hop.
    assert frames == 21
    assert pushed + hop - samples == total.steady


def test_latencies_of_the_recipes():
    """In samples: until the first output, then from a frame's first sample on."""
    expected = {
        # Seven frames, as the last convolution mirrors six of them at the start; then one.
        "encodec": ((2240, 320), (2240, 320)),
        "tiny": ((1120, 160), (1120, 160)),
        "encodec_audiocraft": ((320, 320), (320, 320)),  # zeros need no waiting
    }
    for recipe, pair in expected.items():
        model = codec(*RECIPES[recipe])
        encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
        assert (encoder.latency[:2], codec_latency(encoder, decoder)[:2]) == pair


def test_a_player_that_waits_never_runs_dry():
    for recipe in ("tiny", "not causal", "less delay"):
        model = codec(*RECIPES[recipe])
        encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
        wait = max(codec_latency(encoder, decoder)[:2])
        delays = [encoder.needed(decoder.needed(n + 1)) - n for n in range(40 * 160)]
        assert max(delays) == wait


@torch.no_grad()
def test_the_state_does_not_grow():
    model = codec("tiny", "model.seanet.lstm=1")
    encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
    sizes = []
    for _ in range(4):
        for chunk in encoder.push(torch.randn(1, 1, 8000)):
            decoder.push(chunk)
        # Pickled, a view has all of what it is a view of.
        state = [*encoder._state.values(), *decoder._state.values()]
        sizes.append(len(pickle.dumps(state)))
    assert max(sizes[1:]) - min(sizes[1:]) < 1000 and sizes[-1] < 100_000


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
    encoder.push(torch.zeros(1, 1, 100))
    x = torch.zeros(1, 1, 200)
    x[..., 60] = torch.nan
    with pytest.raises(ValueError, match=r"sample 160 of channel 0 is nan, at 0\.01 s"):
        encoder.push(x)
    encoder.finish()  # what was refused is not in the signal
    with pytest.raises(ValueError, match="at least one sample"):  # of the next one
        encoder.finish()
    with pytest.raises(ValueError, match="nothing to decode"):
        decoder.finish()
    with pytest.raises(ValueError, match="scale"):
        decoder.push(EncodedChunk(torch.zeros(1, 8, 3).long(), torch.ones(1, 1)))
    with pytest.raises(ValueError, match=r"0\.\.255, got 0\.\.256"):
        decoder.push(EncodedChunk(torch.full((1, 2, 3), 256) * torch.tensor([0, 1, 1])))
    training = codec("tiny", seed=2).train()
    for kind in (StreamingEncoder, StreamingDecoder):
        with pytest.raises(ValueError, match=r"model\.eval\(\)"):
            kind(training)
