"""Any length, rate and number of channels through a codec, and files block by block."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import audio, codec, pieces

from adversarial_trainer.audio import (
    mix_channels,
    resample,
)
from adversarial_trainer.models.streaming import (
    EncodedStream,
    decode_signal,
    decode_stream,
    encode_signal,
    reconstruct_stream,
)
from adversarial_trainer.models.streaming.pipeline import resample_blocks

SMALL = ["model.seanet.n_filters=2", "model.seanet.dimension=8"]
MONO = ["tiny", *SMALL]
STEREO = ["tiny", "channels=2", "sample_rate=24000", *SMALL]


@torch.no_grad()
def whole(model, x: torch.Tensor, rate: int) -> torch.Tensor:
    """What `reconstruct_stream` stands for, all at once."""
    audio = resample(mix_channels(x, model.channels), rate, model.sample_rate)
    decoded = model.decode(*model.encode(audio[None]))[0]
    return resample(decoded, model.sample_rate, rate)[:, : x.shape[-1]]


@settings(deadline=None, max_examples=25)
@given(
    recipe=st.sampled_from([MONO, STEREO]),
    channels=st.sampled_from([1, 2, 3, 6, 8, 11]),
    rate=st.sampled_from([4_000, 16_000, 24_000, 44_100, 48_000, 192_000]),
    seconds=st.floats(0, 0.3),
    longest=st.integers(500, 5000),
)
def test_any_input(recipe, channels, rate, seconds, longest):
    """Equal to the whole signal, of the same length; from one sample on."""
    model = codec(*recipe, dtype=torch.float64)
    x = audio(channels, 1 + int(seconds * rate), rate).double()
    y = torch.cat(list(reconstruct_stream(model, pieces(x, longest), rate)), -1)
    assert y.shape == (model.channels, x.shape[-1])
    torch.testing.assert_close(y, whole(model, x, rate), rtol=0, atol=1e-11)


@pytest.mark.parametrize("recipe", [MONO, ["encodec_48khz", *SMALL]])
def test_a_whole_signal_is_coded_as_a_stream_is(recipe) -> None:
    """With fewer codebooks as if the model had encoded with these."""
    model = copy.deepcopy(codec(*recipe))
    x = audio(model.channels, round(2.3 * model.sample_rate), model.sample_rate)
    chunks = encode_signal(model, x[None])
    for count in (1, model.num_codebooks):
        model.set_num_codebooks(count)
        expected = torch.cat(list(reconstruct_stream(model, [x], model.sample_rate)), -1)
        found = decode_signal(model, chunks, x.shape[-1], count)[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_chunks_and_lengths():
    model = codec(*MONO)
    x = audio(1, 33_333, 44_100)
    stream = EncodedStream(model, pieces(x, 4000), 44_100)
    chunks = list(stream)
    assert stream.length == 33_333
    frames = math.ceil(math.ceil(33_333 * 160 / 441) / 160)
    assert sum(chunk.codes.shape[-1] for chunk in chunks) == frames

    def length(**options) -> int:
        return sum(block.shape[-1] for block in decode_stream(model, chunks, **options))

    assert length() == frames * 160
    assert length(length=12_094) == 12_094
    assert length(sample_rate=44_100, length=33_333) == 33_333
    assert length(sample_rate=8_000) == frames * 80
    for wrong in (12_094 - 160, frames * 160 + 1):
        with pytest.raises(ValueError, match=f"not of {wrong}: a wrong length"):
            length(length=wrong)
    with pytest.raises(ValueError, match="wrong length, or chunks are missing"):
        list(decode_stream(model, chunks[:-1], length=12_094))


def test_what_is_refused():
    model = codec(*MONO)

    def run(*blocks: torch.Tensor, rate: int = 48_000) -> None:
        list(EncodedStream(model, blocks, rate))

    for nothing in ([], [torch.zeros(2, 0)]):
        with pytest.raises(ValueError, match="no sample"):
            run(*nothing)
    with pytest.raises(ValueError, match="nothing to decode"):
        list(decode_stream(model, []))
    good, bad = torch.zeros(2, 30_000), torch.zeros(2, 30_000)
    bad[1, 18_000] = torch.inf
    with pytest.raises(ValueError, match=r"sample 48000 of channel 1 is inf, at 1 s"):
        run(good, bad)
    with pytest.raises(ValueError, match="sample rates must be"):
        run(good, rate=0)


RATES = [4_000, 8_000, 11_025, 16_000, 24_000, 44_100, 48_000, 96_000, 192_000]


@settings(deadline=None, max_examples=40)
@given(
    from_rate=st.sampled_from(RATES),
    to_rate=st.sampled_from(RATES),
    length=st.integers(1, 9000),
    longest=st.integers(1, 5000),
    seed=st.integers(0, 99),
)
def test_resampling_block_by_block_is_resampling_the_whole(
    from_rate, to_rate, length, longest, seed
):
    torch.manual_seed(seed)
    x = torch.randn(2, length, dtype=torch.float64)
    blocks = pieces(x, max(longest, length // 50), seed)
    got = torch.cat(list(resample_blocks(blocks, from_rate, to_rate)), -1)
    torch.testing.assert_close(got, resample(x, from_rate, to_rate), rtol=0, atol=1e-12)


def test_rates_with_hardly_a_common_divisor():
    """These are resampled in another way."""
    x = torch.randn(1, 100_000)
    got = torch.cat(list(resample_blocks(pieces(x, 70_000), 44_101, 24_000)), -1)
    torch.testing.assert_close(got, resample(x, 44_101, 24_000), rtol=0, atol=1e-5)
