"""Checkpoint files such as nobody should be sent."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Call:
    """Something that a pickle runs when it is read."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.made_of = function, args

    def __reduce__(self) -> Any:
        return self.made_of


def write_archive(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> None:
    """A file laid out as torch's own, around any pickle."""
    writer = torch._C.PyTorchFileWriter(str(path))
    records = {"data.pkl": pickled, "byteorder": b"little"}
    records.update({f"data/{name}": data for name, data in (storages or {}).items()})
    for name, data in records.items():
        writer.write_record(name, data, len(data))
    writer.write_end_of_file()


def ops(value: Any) -> bytes:
    """The instructions that push a plain value, or a `Call`."""
    return pickle.dumps(value, 2)[2:-1]


def state(value: bytes) -> bytes:
    """The pickle of a dictionary with one item, which the instructions `value` push."""
    return b"\x80\x02}" + ops("model") + value + b"s."


def storage(numel: Any = 4, name: Any = "0", kind: bytes = b"ctorch\nFloatStorage\n") -> bytes:
    """The instructions that push a storage."""
    return b"(" + ops("storage") + kind + ops(name) + ops("cpu") + ops(numel) + b"tQ"


def tensor(
    size: Any = (4,), stride: Any = (1,), offset: Any = 0, of: bytes | None = None, **kwargs: Any
) -> bytes:
    """The instructions that push a tensor."""
    function = b"ctorch._utils\n_rebuild_tensor_v2\n("
    rest = ops(offset) + ops(size) + ops(stride) + b"\x89ccollections\nOrderedDict\n)R"
    return function + (storage(**kwargs) if of is None else of) + rest + b"tR"


def call(module: str, name: str, args: bytes) -> bytes:
    """The instructions that push what a function returns; `args` push its arguments."""
    return f"c{module}\n{name}\n".encode() + b"(" + args + b"tR"


def nested_tuples(levels: int) -> bytes:
    """The instructions that push a pair of pairs of pairs ..., each a pair of twice the same."""
    return b"NN\x86" + b"".join(_again(level) + b"\x86" for level in range(levels))


def nested_lists(levels: int) -> bytes:
    """The same of lists."""
    closing = b"".join(_again(level) + b"e" for level in range(levels))
    return b"](" * (levels + 1) + b"NNe" + closing


def _again(level: int) -> bytes:
    """Push what is on top once more."""
    number = struct.pack("<I", level)
    return b"r" + number + b"j" + number


def repacked(path: Path, change: Callable[[zipfile.ZipInfo, bytes], Any], **kwargs: Any) -> None:
    """Write a whole checkpoint's archive anew with Python's zipfile.

    Args:
        change: gives the record's `(name or info, data)`, or a list of such.
    """
    with zipfile.ZipFile(path) as archive:
        records = [(info, archive.read(info)) for info in archive.infolist()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **kwargs) as archive:
        for info, data in records:
            changed = change(info, data)
            for name, content in changed if isinstance(changed, list) else [changed]:
                archive.writestr(name, content)
    path.write_bytes(as_torch_ends_it(buffer.getvalue()))


def as_torch_ends_it(archive: bytes) -> bytes:
    """With the zip64 end that torch writes, so that nothing but the records is odd."""
    _, _, _, count, _, size, offset, _ = struct.unpack("<4s4H2IH", archive[-22:])
    body = archive[:-22]
    end = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 0, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(body), 1)
    return body + end + locator + archive[-22:]
