"""docs/bitstream.md is enough to write a reader from."""

import io
import json
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from bitstreams import codes_of, header, read, write

from adversarial_trainer.tools.compress.bitstream import BitstreamWriter, Header

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


@pytest.mark.parametrize("kind", ["packed", "separate"])
@pytest.mark.parametrize("length", [1, 14_700, 100_001])
def test_a_reader_written_from_the_page(kind: str, length: int) -> None:
    head, got, blocks = independent_reader(write(kind, length))
    about = header(kind)
    assert got == length and Header(**head) == about
    wanted = codes_of(about, length)
    samples = -(-length * head["model_rate"] // head["sample_rate"])
    assert len(blocks) == len(wanted) == -(-samples // head["stride"])
    for n, ((scale, frames), (codes, factor)) in enumerate(zip(blocks, wanted, strict=True)):
        assert scale == factor and frames == codes.T.tolist()
        rest = min(head["segment"], samples - n * head["stride"])
        assert len(frames) == -(-rest // head["hop"])


def test_the_keys_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE.read_text(), re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    values = json.loads(header("separate coded").to_bytes()[12:-4])
    assert names == set(values)
    assert read(write("separate coded", 100), "separate coded")[0].header == Header(**values)
