"""Any length, rate and number of channels through a codec, and files block by block."""

import copy
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import audio, codec, pieces

from adversarial_trainer.audio import (
    AudioError,
    mix_channels,
    read,
    read_blocks,
    resample,
    write_blocks,
)
from adversarial_trainer.models.streaming import (
    EncodedStream,
    SegmentedDecoder,
    SegmentedEncoder,
    decode_signal,
    decode_stream,
    encode_signal,
    reconstruct_file,
    reconstruct_stream,
)

SMALL = ["model.seanet.n_filters=2", "model.seanet.dimension=8"]
MONO = ["tiny", *SMALL]
STEREO = ["tiny", "channels=2", "sample_rate=24000", *SMALL]


@torch.no_grad()
def whole(model, x: torch.Tensor, rate: int) -> torch.Tensor:
    """What `reconstruct_stream` stands for, all at once."""
    audio = resample(mix_channels(x, model.channels), rate, model.sample_rate)
    codes, scale = model.encode(audio[None])
    decoded = model.decode(codes, scale)[0, :, : audio.shape[-1]]
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


def test_segments_of_choice():
    model = codec(*MONO)
    x = audio(1, 20_000, 16_000)
    chunks = list(EncodedStream(model, [x], 16_000, SegmentedEncoder(model, 0.5, 0.1)))
    assert len(chunks) == 3
    decoder = SegmentedDecoder(model, 0.5, 0.1)
    y = torch.cat(list(decode_stream(model, chunks, length=20_000, decoder=decoder)), -1)
    assert y.shape == x.shape
    # Where only the first segment is, it is that segment's.
    first = whole(model, x[:, :8000], 16_000)[:, :7200]
    torch.testing.assert_close(y[:, :7200], first)


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
    for block in (torch.zeros(5), torch.zeros(1, 5).int()):
        with pytest.raises(ValueError, match=r"floats \[C, T\]"):
            run(block)
    with pytest.raises(ValueError, match="sample rates must be"):
        run(good, rate=0)


def test_downmix():
    """Each channel goes where it stands; nothing clips."""
    for channels in range(1, 12):
        ones = torch.ones(channels, 3)
        for target in (1, 2):
            torch.testing.assert_close(mix_channels(ones, target), torch.ones(target, 3))
    left, right = mix_channels(torch.eye(6), 2)  # L R C LFE l r
    torch.testing.assert_close(left / left[0], torch.tensor([1, 0, 0.5**0.5, 0, 0.5**0.5, 0]))
    torch.testing.assert_close(right, left[[1, 0, 2, 3, 5, 4]])
    left, right = mix_channels(torch.eye(9), 2)
    assert left.nonzero().flatten().tolist() == [0, 2, 4, 6, 8]
    assert right.nonzero().flatten().tolist() == [1, 3, 5, 7]
    with pytest.raises(ValueError, match="6 channels into 4"):
        mix_channels(torch.zeros(6, 3), 4)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3"])
def test_files_in_blocks_are_the_files(tmp_path: Path, suffix: str):
    x = audio(2, 60_001, 48_000)
    path = tmp_path / f"x.{suffix}"
    assert write_blocks(path, pieces(x, 9000), 48_000) == 60_001
    expected, rate = read(path)
    assert rate == 48_000
    got = torch.cat(list(read_blocks(path, 0.1)), -1)
    assert torch.equal(got, expected)
    if suffix in ("wav", "flac"):  # as audio.write has it, sample for sample
        torch.testing.assert_close(got, x, rtol=0, atol=0.51 / 2**15)
        again = tmp_path / "again.wav"
        write_blocks(again, read_blocks(path), 48_000)
        assert torch.equal(read(again)[0], expected)


def test_a_file_through_the_codec(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source, target = tmp_path / "in.flac", tmp_path / "new" / "out.wav"
    x = audio(8, 44_100, 44_100)
    write_blocks(source, [x], 44_100, "PCM_24")
    model = codec(*STEREO)
    assert reconstruct_file(model, source, target, "FLOAT") == 44_100
    got, rate = read(target)
    assert rate == 44_100
    torch.testing.assert_close(got, whole(model, read(source)[0], 44_100), rtol=0, atol=1e-5)
    with caplog.at_level(logging.WARNING):
        write_blocks(target, [3 * x, x], 44_100)
    assert "peak" in caplog.text and read(target)[0].abs().max() <= 1


def test_broken_files(tmp_path: Path):
    target = tmp_path / "out.wav"
    target.write_text("old")
    model = codec(*MONO)
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros((0, 1)), 16_000)
    nan = tmp_path / "nan.wav"
    data = np.zeros(32_000, np.float32)
    data[24_000] = np.nan
    soundfile.write(nan, data, 16_000, "FLOAT")
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    for path, error, message in (
        (empty, ValueError, "no sample"),
        (nan, ValueError, "is nan, at 1.5 s"),
        (text, AudioError, "text.wav"),
        (tmp_path / "missing.wav", FileNotFoundError, "missing.wav"),
    ):
        with pytest.raises(error, match=message):
            reconstruct_file(model, path, target)
    with pytest.raises(ValueError, match="nothing to write"):
        write_blocks(target, [], 16_000)
    with pytest.raises(ValueError, match="cannot write '.xyz'"):
        write_blocks(tmp_path / "a.xyz", [torch.zeros(1, 1)], 16_000)
    with pytest.raises(ValueError, match="is nan, at 0 s"):
        write_blocks(target, [torch.full((1, 1), torch.nan)], 16_000)
    # The old file is there and nothing beside it.
    assert target.read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"out.wav", "empty.wav", "nan.wav", "text.wav"}
