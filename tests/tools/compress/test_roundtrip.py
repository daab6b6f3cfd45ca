"""Bitstreams hold the codes of the streaming encoder, and decode to the same audio."""

import io

import pytest
import torch
from bitstreams import blocks_at
from omegaconf import OmegaConf
from recipes import audio, codec, pieces

from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.models.streaming import EncodedChunk, EncodedStream, decode_stream
from adversarial_trainer.tools.compress.bitstream.format import FormatError, read_codes
from adversarial_trainer.tools.compress.bitstream.reader import BitstreamReader
from adversarial_trainer.tools.compress.decode import decode_audio
from adversarial_trainer.tools.compress.encode import encode_audio, get_coder

SMALL = ["model.seanet.n_filters=2", "model.seanet.dimension=8"]
SEGMENTS = ["encodec_48khz", *SMALL, "quantizer.n_q=2", "quantizer.dropout_choices=null"]
RECIPES = {
    "mono": ["tiny", *SMALL],
    "odd cardinality": ["tiny", *SMALL, "quantizer.bins=200"],
    "not a whole frame rate": ["tiny", "sample_rate=22050", *SMALL],
    "stereo 48 kHz": SEGMENTS,
    "dac": ["tiny", *SMALL, "quantizer=dac_tiny"],
    "one codebook": ["tiny", *SMALL, "quantizer=dac_single"],
    "fsq": ["tiny", *SMALL, "quantizer=fsq_tiny"],
}


def make(recipe: str) -> Codec:
    return Codec(codec(*RECIPES[recipe]), OmegaConf.create({}))


def encode(coded: Codec, x: torch.Tensor, rate: int, entropy: bool = False) -> bytes:
    file = io.BytesIO()
    coder = get_coder(coded.model, coded.model.num_codebooks) if entropy else None
    writer = encode_audio(coded, pieces(x, 9000), rate, len(x), file, coder)
    assert (writer.length, writer.total_bytes) == (x.shape[-1], len(file.getvalue()))
    return file.getvalue()


def decode(coded: Codec, data: bytes, salvage: bool = False) -> torch.Tensor:
    return torch.cat(list(decode_audio(coded, BitstreamReader(io.BytesIO(data), salvage))), -1)


@pytest.mark.parametrize(
    "recipe, channels, rate, length",
    [
        ("mono", 2, 44_100, 50_001),
        ("odd cardinality", 1, 8000, 9000),
        ("not a whole frame rate", 2, 44_100, 1),
        ("stereo 48 kHz", 2, 44_100, 100_001),
        ("dac", 1, 16_000, 20_001),
        ("one codebook", 1, 16_000, 20_001),
        ("fsq", 1, 16_000, 20_001),
    ],
)
def test_codes_and_audio_are_those_of_the_stream(recipe: str, channels, rate, length) -> None:
    coded = make(recipe)
    model = coded.model
    x = audio(channels, length, rate)
    data, small = encode(coded, x, rate), encode(coded, x, rate, entropy=True)

    chunks = list(EncodedStream(model, pieces(x, 9000), rate))
    reader = BitstreamReader(io.BytesIO(data))
    blocks = [read_codes(reader.header, block, None) for block in reader]
    codes = torch.cat([torch.from_numpy(codes) for codes, _ in blocks], -1)
    assert torch.equal(codes, torch.cat([chunk.codes[0] for chunk in chunks], -1))
    if recipe == "stereo 48 kHz":
        assert [scale for _, scale in blocks] == [chunk.scale.item() for chunk in chunks]
    # Bit for bit for the same pieces; those of the encoder are of other lengths.
    stored = [
        EncodedChunk(torch.from_numpy(codes)[None], scale and torch.tensor([[scale]]))
        for codes, scale in blocks
    ]
    expected = torch.cat(list(decode_stream(model, stored, rate, length)), -1)
    direct = torch.cat(list(decode_stream(model, chunks, rate, length)), -1)
    torch.testing.assert_close(expected, direct, rtol=0, atol=1e-5)
    if channels == 1:
        expected = expected.mean(0, keepdim=True)
    for stream in (data, small):
        assert torch.equal(decode(coded, stream), expected)
    assert expected.shape == (1 if channels == 1 else model.channels, length)
    assert reader.header.channels == channels


def test_entropy_coding_follows_the_counts() -> None:
    """What training saw most often takes the fewest bits; the tables are part of the stream."""
    coded = make("mono")
    x = audio(1, 32_000, 16_000)
    data = encode(coded, x, 16_000, entropy=True)
    counts = coded.model.quantizer.codebooks[0].cluster_size
    before = counts.clone()
    try:
        counts[0] *= 2
        with pytest.raises(ValueError, match="its entropy tables are .*, and this model's"):
            decode(coded, data)
        codes = torch.cat([c.codes[0] for c in EncodedStream(coded.model, [x], 16_000)], -1)
        counts.copy_(torch.bincount(codes[0], minlength=len(counts)).float())
        fitted = encode(coded, x, 16_000, entropy=True)
        assert torch.equal(decode(coded, fitted), decode(coded, encode(coded, x, 16_000)))
        assert len(fitted) < len(data)
    finally:
        counts.copy_(before)


def test_salvage_keeps_the_time() -> None:
    """Silence for what is lost; the first block of each run is decoded as a beginning."""
    coded = make("mono")
    x = audio(1, 16_000 * 5 + 77, 16_000)
    data = encode(coded, x, 16_000)
    starts, whole = blocks_at(data), decode(coded, data)
    damaged = bytearray(data)
    damaged[starts[2] + 30] ^= 1
    y = decode(coded, bytes(damaged), salvage=True)
    assert y.shape == whole.shape
    assert torch.equal(y[:, :31_000], whole[:, :31_000])
    assert not y[:, 32_000:48_000].any()
    reader = BitstreamReader(io.BytesIO(data))
    codes = [read_codes(reader.header, block, None)[0] for block in reader]
    after = torch.cat([torch.from_numpy(part) for part in codes[3:]], -1)[None]
    with torch.no_grad():
        expected = coded.model.decode(after)[0, :, :32_077]
    torch.testing.assert_close(y[:, 48_000:], expected, rtol=0, atol=1e-5)
    for cut in (data[: starts[0]], data[: starts[0]] + data[starts[-2] :]):
        with pytest.raises(FormatError, match="no undamaged block"):
            decode(coded, cut, salvage=True)


def test_salvage_of_segments() -> None:
    coded = make("stereo 48 kHz")
    x = audio(2, 200_000, 48_000)
    data = encode(coded, x, 48_000)
    whole, damaged = decode(coded, data), bytearray(data)
    damaged[blocks_at(data)[1] + 30] ^= 1
    y = decode(coded, bytes(damaged), salvage=True)
    assert y.shape == whole.shape
    assert torch.equal(y[:, :47_520], whole[:, :47_520])
    assert not y[:, 48_000 : 2 * 47_520].any()
    # Where segment 2 faded in it is now alone; later on nothing is changed.
    torch.testing.assert_close(y[:, 96_000:], whole[:, 96_000:], rtol=0, atol=1e-5)
