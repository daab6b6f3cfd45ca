"""Codes come back from a bitstream, in the sizes that docs/bitstream.md says."""

import io
import json
import sys
import zlib

import numpy as np
import pytest
from bitstreams import KINDS, STREAM, blocks_at, coder, codes_of, header, read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from adversarial_trainer.tools.compress.bitstream import (
    BitstreamReader,
    BitstreamWriter,
    EntropyCoder,
    FormatError,
    Header,
    make_table,
)
from adversarial_trainer.tools.compress.bitstream.format import pack, read_header, unpack


@settings(deadline=None, max_examples=30)
@given(
    codebooks=st.integers(1, 9),
    frames=st.integers(1, 50),
    bits=st.integers(1, 24),
    seed=st.integers(0),
)
def test_packing(codebooks: int, frames: int, bits: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (codebooks, frames))
    data = pack(codes, bits)
    # As one large number, frame by frame.
    number = "".join(f"{code:0{bits}b}" for frame in codes.T for code in frame)
    assert data == int(number.ljust(8 * len(data), "0"), 2).to_bytes(len(data), "big")
    assert len(data) == -(-codebooks * frames * bits // 8)
    assert np.array_equal(unpack(data, codebooks, frames, bits), codes)


@settings(deadline=None, max_examples=30)
@given(
    kind=st.sampled_from(KINDS),
    length=st.integers(1, 60_000),
    rate=st.sampled_from([8000, 24_000, 44_100, 192_000]),
)
def test_all_lengths_come_back(kind: str, length: int, rate: int) -> None:
    data = write(kind, length, sample_rate=rate)
    expected = codes_of(header(kind, sample_rate=rate), length)
    reader, blocks, gaps = read(data, kind)
    assert reader.complete and not gaps and reader.length == length
    assert reader.header == header(kind, sample_rate=rate)
    assert [number for number, _, _ in blocks] == list(range(len(expected)))
    for (_, codes, scale), (wanted, factor) in zip(blocks, expected, strict=True):
        assert np.array_equal(codes, wanted) and scale == factor
    samples = -(-length * 24_000 // rate)
    if "separate" not in kind:  # the frames are those of the whole signal
        assert reader.frames == -(-samples // 320)
    assert reader.total_bytes == len(data)


def test_sizes() -> None:
    """A packed stream has its nominal bits, a header, 17 bytes a block and 25 at the end."""
    length = 44_100 * 60
    data = write("packed", length)
    reader, blocks, _ = read(data, "packed")
    frames = 60 * 75
    assert len(blocks) == frames / 25 and reader.header.bits == 8
    assert reader.payload_bytes == frames * 3
    kbps = reader.header.kbps(60, reader.payload_bytes, reader.total_bytes)
    assert kbps["nominal"] == kbps["payload"] == 3 * 8 * 75 / 1000
    assert len(data) == len(header("packed").to_bytes()) + reader.payload_bytes + 17 * 180 + 25
    coded = write("coded", length)
    reader, _, _ = read(coded, "coded")
    assert reader.coded == reader.blocks == 180
    # Within 2 % and four bytes a block of the entropy of the tables it was drawn from.
    tables = coder("coded")
    assert tables is not None
    shares = [table / table.sum() for table in tables.tables]
    entropy = sum(float(-(p * np.log2(p)).sum()) for p in shares) * frames / 8
    assert 0.98 * entropy < reader.payload_bytes < 1.02 * entropy + 4 * 180
    assert len(coded) < len(data)


def test_pieces_of_any_length_make_the_same_file() -> None:
    about = header("packed")
    (codes, _), *rest = codes_of(about, 100_000)
    codes = np.concatenate([codes, *(c for c, _ in rest)], 1)
    file = io.BytesIO()
    writer = BitstreamWriter(file, about)
    for part in np.split(codes, [0, 1, 2, 24, 25, 26, 90], 1):
        writer.write(part)
    writer.finish(100_000)
    assert file.getvalue() == write("packed", 100_000)


def test_a_pipe_gives_what_it_has() -> None:
    """Bytes that come in singly; a block is there once its last byte is."""
    data = write("packed", 60_000)

    class Slow(io.BytesIO):
        def read1(self, size: int = -1) -> bytes:
            return self.read(1)

    file = Slow(data)
    reader = BitstreamReader(file)
    starts = blocks_at(data)
    for number, _ in enumerate(reader):
        assert file.tell() == starts[number + 1]
    assert reader.complete and number == 4


def test_what_does_not_pay_is_packed() -> None:
    """Of codes that the tables hold for rare, and of one frame."""
    tables = coder("coded")
    assert tables is not None
    about = header("coded")
    rare = np.array([table.argsort()[:30] for table in tables.tables])
    file = io.BytesIO()
    writer = BitstreamWriter(file, about, tables)
    writer.write(rare)
    writer.finish(44_100 * 30 // 75)
    reader, blocks, _ = read(file.getvalue(), "coded")
    assert reader.coded == 0 and reader.payload_bytes == 30 * 3
    assert np.array_equal(np.concatenate([codes for _, codes, _ in blocks], 1), rare)


def test_tables() -> None:
    for counts in ([1, 0], [1e-300, 1], [3, 2, 1, 0], np.random.default_rng(0).random(1024) ** 9):
        table = make_table(np.array(counts))
        assert table.sum() == 1 << 16 and table.min() >= 1
        share = np.array(counts) / np.sum(counts)
        assert np.abs(table / (1 << 16) - share).max() < (len(counts) + 1) / (1 << 16)
    assert make_table(np.ones(256)).tolist() == [256] * 256
    with pytest.raises(ValueError, match="up to 32768"):
        make_table(np.ones(40_000))
    # Known in advance: files written today must be read by later versions.
    first, second = (EntropyCoder([make_table(np.arange(n))]) for n in (5, 6))
    assert first.hash != second.hash
    # Also where the codes that differ are none of the first ones.
    one = np.arange(1, 31)
    other = np.concatenate([one[:-2], one[:-3:-1]])
    assert EntropyCoder([make_table(one)]).hash != EntropyCoder([make_table(other)]).hash
    assert first.encode(np.array([[4, 0, 3, 2, 4, 4, 1]])).hex() == "ce269a99"


def test_without_constriction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ValueError, match=r"pip install 'adversarial_trainer\[entropy\]'"):
        EntropyCoder([make_table(np.ones(4))])
    assert read(write("packed", 9), "packed")[0].complete


def test_a_length_that_does_not_fit_is_not_written() -> None:
    writer = BitstreamWriter(io.BytesIO(), header("packed"))
    writer.write(np.zeros((3, 4), np.int64))
    with pytest.raises(ValueError, match="44100 samples need 3 blocks, but 1 were written"):
        writer.finish(44_100)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"sample_rate": 0}, "sample_rate=0"),
        ({"hop": 320.0}, "hop=320.0"),
        ({"segment": 320 * 30_000, "stride": 320 * 30_000}, "too large"),
        ({"model": 5}, "model=5"),
        ({"separate": 1}, "separate=1"),
    ],
)
def test_wrong_headers(changes: dict, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        Header(**(STREAM | changes))


def test_keys_of_later_versions_are_ignored() -> None:
    def with_json(text: bytes) -> bytes:
        data = b"\x89ATC\r\n\x1a\n\1\0" + len(text).to_bytes(2, "little") + text
        return data + zlib.crc32(data).to_bytes(4, "little")

    values = json.loads(header("packed").to_bytes()[12:-4])
    assert read_header(with_json(json.dumps(values | {"artist": "x"}).encode())) == header("packed")
    for odd in (b"[" * 4000, b"\xff", b"1" * 4096, b"[]"):
        with pytest.raises(FormatError, match="no JSON object"):
            read_header(with_json(odd))
    del values["hop"]
    with pytest.raises(FormatError, match="no JSON object with .*hop"):
        read_header(with_json(json.dumps(values).encode()))
