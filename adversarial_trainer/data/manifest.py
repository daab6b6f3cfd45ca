"""Lists of audio files as AudioCraft keeps them: JSON lines, gzipped or not."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import reprlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from adversarial_trainer.audio import replacing

SUFFIXES = (".jsonl", ".jsonl.gz")
MAX_LINE = 1 << 20  # bytes
MAX_RATIO = 100  # of unpacked to packed bytes; real lists have about 10
MAX_EMPTY = 1000  # lines, and one for each entry
MIN_LIMIT = 1 << 23  # bytes that are unpacked in any case


@dataclass(frozen=True, slots=True)
class AudioMeta:
    """One file of a data set; AudioCraft's fields.

    Attributes:
        path: of the audio file.
        duration: in seconds, > 0.
        sample_rate: in Hz.
        amplitude: peak of the absolute samples, if known.
        weight: how much more often than its duration says the file is drawn; None counts as 1.
        info_path: a file with more about this one; kept, not used.
    """

    path: str
    duration: float
    sample_rate: int
    amplitude: float | None = None
    weight: float | None = None
    info_path: str | None = None


def is_manifest(path: str | Path) -> bool:
    """Whether the name is that of a manifest."""
    return str(path).endswith(SUFFIXES)


def load_manifest(path: str | Path, name: str = "manifest") -> list[AudioMeta]:
    """Read a `.jsonl` or `.jsonl.gz` manifest, in the file's order.

    Relative paths count from the manifest's folder. Fields that AudioMeta lacks are ignored. The
    audio files are not looked at.

    Args:
        name: the configuration key the path comes from, for messages.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an entry is wrong (names file, line and field), or there is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{name}={str(path)!r}: no such file")
    if not is_manifest(path):
        raise ValueError(f"{name}={str(path)!r}: a manifest ends in {' or '.join(SUFFIXES)}")
    folder = os.path.abspath(path.parent)
    metas = []
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(read_lines(file, path), 1):
                if line.strip():
                    metas.append(_parse(line, folder, f"{path}:{number}"))
                elif number > 2 * len(metas) + MAX_EMPTY:
                    raise ValueError(f"{path}:{number}: nearly all lines are empty")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: broken gzip after line {number}: {error}") from error
    if not metas:
        raise ValueError(f"{name}={str(path)!r}: the manifest has no entries")
    return metas


def read_lines(file: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[bytes]:
    """The lines of the file `path`, with bounded memory.

    Raises:
        ValueError: one is too long, or the file was packed as no list of files packs.
    """
    limit = max(MIN_LIMIT, MAX_RATIO * path.stat().st_size)
    for number in itertools.count(1):
        line = file.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise ValueError(f"{path}:{number}: the line is longer than {MAX_LINE} bytes")
        if file.tell() > limit:
            raise ValueError(f"{path}:{number}: unpacks to more than {MAX_RATIO} times its size")
        if not line:
            return
        yield line


def save_manifest(path: str | Path, metas: Iterable[AudioMeta]) -> None:
    """Write a manifest, gzipped if the name ends in `.gz`; atomic, equal bytes for equal metas."""
    # ASCII escapes carry names that are not valid UTF-8 (lone surrogates) there and back.
    text = "".join(json.dumps(asdict(meta)) + "\n" for meta in metas).encode("ascii")
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(text, mtime=0) if str(path).endswith(".gz") else text)


def meta_from_dict(entry: Mapping[str, Any], folder: str, where: str) -> AudioMeta:
    """Check one entry. Relative paths count from `folder`; `where` starts each error message."""

    def fail(field: str, expected: str) -> ValueError:
        got = reprlib.repr(entry[field]) if field in entry else "nothing"
        return ValueError(f"{where}: field {field!r}: expected {expected}, got {got}")

    def number(field: str, expected: str, low: float, optional: bool) -> float | None:
        value = entry.get(field)
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise fail(field, expected)
        try:
            value = float(value)
        except OverflowError:  # a whole number of hundreds of digits
            value = math.inf
        if not math.isfinite(value) or value < low or (not optional and value == 0):
            raise fail(field, expected)
        return value

    def file(field: str) -> str:
        value = entry.get(field)
        if not isinstance(value, str) or not value or "\0" in value:
            raise fail(field, "a path")
        return os.path.normpath(os.path.join(folder, value))

    duration = number("duration", "seconds > 0", 0.0, optional=False)
    rate = number("sample_rate", "a whole number of Hz > 0", 1.0, optional=False)
    if duration is None or rate is None or rate != int(rate):
        raise fail("sample_rate", "a whole number of Hz > 0")
    return AudioMeta(
        path=file("path"),
        duration=duration,
        sample_rate=int(rate),
        amplitude=number("amplitude", "a number >= 0 or null", 0.0, optional=True),
        weight=number("weight", "a number >= 0 or null", 0.0, optional=True),
        info_path=None if entry.get("info_path") is None else file("info_path"),
    )


def _parse(line: bytes, folder: str, where: str) -> AudioMeta:
    try:
        entry = json.loads(line)
    except ValueError as error:  # bad JSON or bad UTF-8
        raise ValueError(f"{where}: not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{where}: not JSON: nested too deeply") from error
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected an object, got {type(entry).__name__}")
    return meta_from_dict(entry, folder, where)
