"""Codes come back from a bitstream, byte for byte as docs/bitstream.md says.

An independent reader, written from the page alone, is the reference.
"""

import io
import json
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from bitstreams import KINDS, STREAM, blocks_at, coder, codes_of, header, read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from adversarial_trainer.tools.compress.bitstream.entropy import EntropyCoder, make_table
from adversarial_trainer.tools.compress.bitstream.format import (
    BitstreamWriter,
    FormatError,
    Header,
)
from adversarial_trainer.tools.compress.bitstream.reader import BitstreamReader

PAGE = Path(__file__).parents[4] / "docs/bitstream.md"


def independent_reader(data: bytes) -> tuple[dict, int, list[tuple[float | None, list[list[int]]]]]:
    """Header, length, and of each block its scale and frames; from the page alone."""
    assert data[:8] == bytes([0x89, 0x41, 0x54, 0x43, 0x0D, 0x0A, 0x1A, 0x0A])
    version, size = struct.unpack("<HH", data[8:12])
    assert version == 1
    head = json.loads(data[12 : 12 + size])
    start = data[: 12 + size]
    assert struct.unpack("<I", data[12 + size : 16 + size]) == (zlib.crc32(start),)
    bits, position, blocks = math.ceil(math.log2(head["cardinality"])), 16 + size, []
    while True:
        marker, crc, kind, number, frames, length = struct.unpack_from("<4sIBIHH", data, position)
        end = position + 17 + length
        assert marker == bytes([0xF5, 0x41, 0x54, 0x42]) and number == len(blocks)
        assert crc == zlib.crc32(start + data[position + 8 : end])
        payload, position = data[position + 17 : end], end
        if kind == 2:
            assert position == len(data)
            return head, struct.unpack("<Q", payload)[0], blocks
        assert kind == 0
        scale = None
        if head["scaled"]:
            scale, payload = struct.unpack("<f", payload[:4])[0], payload[4:]
        text = "".join(f"{byte:08b}" for byte in payload)
        codes = [int(text[i * bits : (i + 1) * bits], 2) for i in range(frames * head["codebooks"])]
        k = head["codebooks"]
        blocks.append((scale, [codes[i : i + k] for i in range(0, len(codes), k)]))


def example() -> bytes:
    """The bytes of the page's dump."""
    lines = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} )+)", PAGE.read_text(), re.MULTILINE)
    data = bytearray()
    for offset, line in lines:
        assert int(offset, 16) == len(data)
        data += bytes.fromhex(line)
    return bytes(data)


def test_the_example() -> None:
    data = example()
    head, length, blocks = independent_reader(data)
    assert length == 500 and blocks == [(None, [[1, 5], [2, 6], [3, 7]]), (None, [[4, 0]])]
    about = Header(**head)
    file = io.BytesIO()
    writer = BitstreamWriter(file, about)
    writer.write(np.array([[1, 2, 3, 4], [5, 6, 7, 0]]))
    writer.finish(500)
    assert file.getvalue() == data


@settings(deadline=None, max_examples=30)
@given(
    codebooks=st.integers(1, 9),
    frames=st.integers(1, 60),
    bits=st.integers(1, 24),
    seed=st.integers(0),
)
def test_packing(codebooks: int, frames: int, bits: int, seed: int) -> None:
    """Of any number of bits, codebooks and frames."""
    about = Header(**(STREAM | {"codebooks": codebooks, "cardinality": 1 << bits}))
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (codebooks, frames))
    file = io.BytesIO()
    writer = BitstreamWriter(file, about)
    for part in np.split(codes, [0, frames // 2], 1):  # pieces of any length
        writer.write(part)
    writer.finish(frames * 320 * 44_100 // 24_000)
    head, _, blocks = independent_reader(file.getvalue())
    assert Header(**head) == about
    assert [frame for _, part in blocks for frame in part] == codes.T.tolist()
    _, blocks, _ = read(file.getvalue(), "packed")
    assert np.array_equal(np.concatenate([part for _, part, _ in blocks], 1), codes)


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
    if "coded" not in kind:
        head, got, plain = independent_reader(data)
        assert got == length and len(plain) == -(-samples // head["stride"])
        assert plain == [(scale, codes.T.tolist()) for codes, scale in expected]
        for n, (_, frames) in enumerate(plain):
            rest = min(head["segment"], samples - n * head["stride"])
            assert len(frames) == -(-rest // head["hop"])


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


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"sample_rate": 0}, "sample_rate=0"),
        ({"segment": 320 * 30_000, "stride": 320 * 30_000}, "too large"),
        ({"model": 5}, "model=5"),
    ],
)
def test_wrong_headers(changes: dict, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        Header(**(STREAM | changes))


def test_keys_of_later_versions_are_ignored() -> None:
    def read_header(text: bytes) -> Header:
        data = b"\x89ATC\r\n\x1a\n\1\0" + len(text).to_bytes(2, "little") + text
        return BitstreamReader(io.BytesIO(data + zlib.crc32(data).to_bytes(4, "little"))).header

    values = json.loads(header("packed").to_bytes()[12:-4])
    assert read_header(json.dumps(values | {"artist": "x"}).encode()) == header("packed")
    for odd in (b"[" * 4000, b"\xff", b"1" * 4096, b"[]"):
        with pytest.raises(FormatError, match="no JSON object"):
            read_header(odd)
    del values["hop"]
    with pytest.raises(FormatError, match="no JSON object with .*hop"):
        read_header(json.dumps(values).encode())


def test_the_keys_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE.read_text(), re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    values = json.loads(header("separate coded").to_bytes()[12:-4])
    assert names == set(values)
    assert read(write("separate coded", 100), "separate coded")[0].header == Header(**values)
