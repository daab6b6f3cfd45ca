"""AudioCraft's lists of audio files: JSON lines, gzipped or not."""

from __future__ import annotations

import gzip
import json
import os
import reprlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, InstanceOf, PositiveInt, TypeAdapter, ValidationError

from adversarial_trainer.audio import replacing

SUFFIXES = (".jsonl", ".jsonl.gz")
MAX_LINE = 1 << 20  # bytes
Number = Annotated[float, Field(ge=0, lt=2**63)]


@dataclass(frozen=True, slots=True)
class AudioMeta:
    """One file of a data set; AudioCraft's fields.

    Attributes:
        path: of the audio file.
        duration: in seconds, > 0.
        sample_rate: in Hz.
        amplitude: largest absolute sample, if known.
        weight: multiplies the file's duration in the random draw; None counts as 1.
        info_path: a file with more about this one; kept, not used.
    """

    path: InstanceOf[str]  # pydantic's own check refuses names that are not UTF-8
    duration: Annotated[Number, Field(gt=0)]
    sample_rate: PositiveInt
    amplitude: Number | None = None
    weight: Number | None = None
    info_path: InstanceOf[str] | None = None


def find_manifest(path: str | Path) -> Path | None:
    """Return the manifest that `path` names, or that lies in this folder as AudioCraft's `data`."""
    if os.path.isdir(path):
        places = (Path(path, f"data{suffix}") for suffix in SUFFIXES)
        return next((place for place in places if place.is_file()), None)
    return Path(path) if str(path).endswith(SUFFIXES) else None


def load_manifest(path: str | Path, name: str = "manifest") -> list[AudioMeta]:
    """Read a `.jsonl` or `.jsonl.gz` manifest, in the file's order, or the one in a folder.

    Relative paths count from the manifest's folder; those that lead nowhere from there, from the
    working directory, as in AudioCraft. Fields that AudioMeta lacks are ignored. The audio files
    are not opened.

    Args:
        name: the configuration key the path comes from, for messages.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an entry is wrong (names file, line and field), or there is none.
    """
    place = find_manifest(path)
    if not (os.path.exists(path) if place is None else place.is_file()):
        raise FileNotFoundError(f"{name}={str(path)!r}: no such file")
    if place is None:
        raise ValueError(
            f"{name}={str(path)!r}: a manifest ends in {' or '.join(SUFFIXES)}, or is a folder "
            "with a data.jsonl or data.jsonl.gz"
        )
    folder = os.path.abspath(place.parent)
    metas = [meta_from_dict(e, folder, where) for where, e in read_entries(place, f"{name}=")]
    if not metas:
        raise ValueError(f"{name}={str(path)!r}: the manifest has no entries")
    return metas


def read_entries(path: Path, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(<prefix>file:line, object)` of a file of JSON lines, skipping empty ones.

    Raises ValueError for anything but JSON objects, and for lines longer than a megabyte.
    """
    where = f"{prefix}{path}"
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
                where = f"{prefix}{path}:{number}"
                if len(line) > MAX_LINE:
                    raise ValueError(f"{where}: the line is longer than {MAX_LINE} bytes")
                if not line.strip():
                    continue
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError) as error:  # also bad UTF-8, and [[[[...
                    raise ValueError(f"{where}: not JSON: {error}") from error
                if not isinstance(entry, dict):
                    raise ValueError(f"{where}: expected an object, got {type(entry).__name__}")
                yield where, entry
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{where}: broken gzip: {error}") from error


def save_manifest(path: str | Path, metas: Iterable[AudioMeta]) -> None:
    """Write a manifest, gzipped if the name ends in `.gz`; atomic, equal bytes for equal metas."""
    save_entries(path, map(asdict, metas))


def save_entries(path: str | Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines; atomic."""
    # ASCII escapes preserve names that are not valid UTF-8 (lone surrogates).
    text = "".join(json.dumps(entry) + "\n" for entry in entries).encode("ascii")
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(text, mtime=0) if str(path).endswith(".gz") else text)


def meta_from_dict(entry: Mapping[str, Any], folder: str, where: str) -> AudioMeta:
    """Check one entry. Relative paths: see `load_manifest`; `where` starts each error message."""
    try:
        meta = _ENTRY.validate_python(entry)
    except ValidationError as exc:
        error = exc.errors()[0]
        field, got = error["loc"][0], reprlib.repr(error["input"])
        raise ValueError(f"{where}: field {field!r}: {error['msg']}, got {got}") from None
    info_path = None if meta.info_path is None else _place(meta.info_path, folder)
    return replace(meta, path=_place(meta.path, folder), info_path=info_path)


def _place(path: str, folder: str) -> str:
    place, here = os.path.normpath(os.path.join(folder, path)), os.path.abspath(path)
    if os.path.isabs(path) or os.path.exists(place) or not os.path.exists(here):
        return place
    return here


_ENTRY = TypeAdapter(AudioMeta)
