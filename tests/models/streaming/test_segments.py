"""Segments against the encodec package, which is an implementation of its own."""

import encodec
import pytest
import torch
from recipes import audio, codec, pieces

from adversarial_trainer.models import EncodecModel, load_encodec_state_dict
from adversarial_trainer.models.streaming import (
    EncodedChunk,
    EncodedStream,
    SegmentedDecoder,
    decode_stream,
    get_decoder,
    get_encoder,
)
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder
from adversarial_trainer.quantization import ResidualVectorQuantizer

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
RATE = 4800  # a tenth of the published model's, so that segments of 1 s are quick


@pytest.fixture(scope="module")
def pair():
    """The package's 48 kHz model but for sizes and rate, and ours with its weights."""
    torch.manual_seed(0)
    sizes = dict(channels=2, dimension=16, n_filters=4, ratios=[8, 5, 4, 2])
    options = dict(norm="time_group_norm", causal=False)
    theirs = encodec.EncodecModel(
        encodec.modules.SEANetEncoder(**sizes, **options),
        encodec.modules.SEANetDecoder(**sizes, **options),
        encodec.quantization.ResidualVectorQuantizer(16, n_q=4, bins=64, kmeans_init=False),
        [0.6],
        RATE,
        2,
        normalize=True,
        segment=1.0,
        overlap=0.01,
    ).eval()
    theirs.set_target_bandwidth(0.6)
    for layer in theirs.quantizer.vq.layers:
        layer._codebook.embed.normal_(std=0.3)
    ours = EncodecModel(
        SEANetEncoder(**sizes, **options, n_residual_layers=1, true_skip=False, lstm=2),
        SEANetDecoder(**sizes, **options, n_residual_layers=1, true_skip=False, lstm=2),
        ResidualVectorQuantizer(16, 4, bins=64),
        RATE / 320,
        RATE,
        2,
        renormalize=True,
    ).eval()
    load_encodec_state_dict(ours, theirs.state_dict())
    return theirs, ours


# One sample; a segment less one, whole, and one more; where the second begins and just after it
# (a last segment shorter than the overlap); several.
@pytest.mark.parametrize("length", [1, 4799, 4800, 4801, 4752, 4753, 12000, 23760, 30001])
@torch.no_grad()
def test_equals_the_encodec_package(pair, length):
    theirs, ours = pair
    x = audio(4, length, RATE).view(2, 2, length) * torch.tensor([1.0, 0.1]).view(2, 1, 1)
    frames = theirs.encode(x)
    expected = theirs.decode(frames)
    for longest in (max(1, length // 30), length):
        encoder, decoder = get_encoder(ours), get_decoder(ours)
        chunks = [c for piece in pieces(x, longest, 1) for c in encoder.push(piece)]
        chunks += encoder.finish()
        assert len(chunks) == len(frames)
        for chunk, (codes, scale) in zip(chunks, frames, strict=True):
            assert torch.equal(chunk.codes, codes)
            torch.testing.assert_close(chunk.scale, scale)
        y = torch.cat([*(decoder.push(chunk) for chunk in chunks), decoder.finish()], -1)
        torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)
    assert length < 1000 or expected[..., :length].std() > 1e-3


@torch.no_grad()
def test_every_length_comes_back(pair):
    theirs, ours = pair
    for length in (*range(1, 40, 13), *range(4740, 4850, 11), *range(9490, 9610, 13)):
        x = audio(2, length, RATE)
        chunks = EncodedStream(ours, [x], RATE)
        y = torch.cat(list(decode_stream(ours, chunks, length=length)), -1)
        torch.testing.assert_close(y, theirs(x[None])[0], atol=1e-5, rtol=1e-4)


def test_errors():
    model = codec("tiny")
    decoder = SegmentedDecoder(model)
    with pytest.raises(ValueError, match="nothing to decode"):
        decoder.finish()
    decoder.push(EncodedChunk(torch.zeros(1, 8, 3).long()))
    with pytest.raises(ValueError, match="beginning with the first"):
        decoder.push(EncodedChunk(torch.zeros(1, 8, 4).long()))
