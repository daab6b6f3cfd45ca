"""The zip archive that torch.save writes, and no other.

Torch's reader looks at no checksum, and Python's is more lenient than torch's about what a zip may
look like. What passes here is laid out as torch lays it out, so that both see the same records.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
from dataclasses import dataclass
from typing import IO

_CHUNK = 1 << 20
# zip64 end of central directory, its locator, end of central directory; no comment.
_TAIL = struct.Struct("<4s36xQQ 4s16x 4s16xH")
_SIGNATURES = (b"PK\6\6", b"PK\6\7", b"PK\5\6")
_FOLDER = 0x10  # among the attributes
_FLAGS = 0x808  # UTF-8 names; sizes behind the data too
# Below the archive's own folder. No name here leads anywhere, or makes torch look for a program.
_NAMES = re.compile(
    r"data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment|"
    r"\.data/serialization_id"
)


@dataclass(frozen=True)
class Archive:
    """What is in a checkpoint file.

    Attributes:
        pickle: the containers and plain values.
        storages: bytes of each storage of tensors, by its name.
    """

    pickle: bytes
    storages: dict[str, int]


def read_archive(file: IO[bytes], checksums: bool = True) -> Archive:
    """Check the archive in `file`, and give what its pickle is; the memory is that of the pickle.

    Args:
        checksums: whether to read all records and compare their CRC-32.
    Raises:
        ValueError: damaged, or not as torch.save writes it.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            infos = _check_layout(file, archive)
            if checksums:
                for info in infos.values():
                    with archive.open(info) as record:
                        while record.read(_CHUNK):  # compares the checksum at its end
                            pass
            pickled = archive.read(infos["data.pkl"])
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError) as exc:
        # NotImplementedError: a zip version, or a way of packing, that Python lacks.
        raise ValueError(f"damaged, or no checkpoint ({exc})") from exc
    sizes = {name: info.file_size for name, info in infos.items()}
    storages = {name[5:]: size for name, size in sizes.items() if name.startswith("data/")}
    return Archive(pickled, storages)


def _check_layout(file: IO[bytes], archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The records by their names inside the archive's folder."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - _TAIL.size))
    tail = file.read(_TAIL.size)
    if len(tail) < _TAIL.size:
        raise ValueError("damaged, or no checkpoint (too short)")
    first, size, offset, second, third, comment = _TAIL.unpack(tail)
    if (first, second, third) != _SIGNATURES or comment or offset + size != length - _TAIL.size:
        raise ValueError("damaged, or not written by torch.save (its directory is elsewhere)")
    infos: dict[str, zipfile.ZipInfo] = {}
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        name = info.filename.partition("/")[2]
        if not _NAMES.fullmatch(name) or name in infos:
            raise ValueError(f"not written by torch.save (it has a record {info.filename!r})")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"not written by torch.save (record {name!r} is compressed)")
        if info.external_attr & _FOLDER or info.flag_bits & ~_FLAGS:
            # Torch gives whatever is in memory for the data of a "folder".
            raise ValueError(f"damaged (record {name!r} is marked as a folder or the like)")
        if info.header_offset < end:
            raise ValueError(f"damaged (record {name!r} overlaps another)")
        end = info.header_offset + info.file_size  # and more: the header itself
        infos[name] = info
    if end > offset:
        raise ValueError("damaged (a record is larger than the file)")
    # Before 2.1 torch wrote no "byteorder": published codecs are of that time. It means "little".
    for needed in ("data.pkl", "version"):
        if needed not in infos:
            raise ValueError(f"damaged, or not written by torch.save (no record {needed!r})")
    return infos
