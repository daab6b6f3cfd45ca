"""What happens to a run's files while no process of it lives."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Hostile:
    """Makes the file `MARKER` when it is unpickled by what executes pickles."""

    marker = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (Hostile.marker,)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Checkpoints:
    """The checkpoints of a run, and which of them have been damaged."""

    def __init__(self, run: Path, marker: Path) -> None:
        self.run = run
        self.marker = marker
        Hostile.marker = str(marker)
        self.damaged: set[str] = set()  # digests of what was put in place

    def candidates(self) -> list[Path]:
        """Those that a run may go on from, newest first."""
        copies = [p for p in self.run.glob("checkpoint_*.th") if p.stem.split("_")[1].isdigit()]
        copies.sort(key=lambda path: -int(path.stem.split("_")[1]))
        first = [self.run / "checkpoint.th", self.run / "checkpoint_previous.th"]
        return [path for path in (*first, *copies) if path.exists()]

    def is_damaged(self, path: Path) -> bool:
        return digest(path) in self.damaged

    def accept(self, updates: int) -> None:
        """A run has gone on from a checkpoint with so many updates: a bit that was flipped in it
        was none of its content, and the next life may take it too."""
        for path in self.candidates():
            if self.is_damaged(path) and _updates(path) == updates:
                self.damaged.discard(digest(path))

    def newest(self) -> tuple[Path, int] | None:
        """The one that the next life should go on from, and its number of updates."""
        for path in self.candidates():
            if not self.is_damaged(path):
                return path, read(path)["updates"]
        return None

    def damage(self, path: Path, draws: random.Random) -> str:
        """Make one useless, for all its names or for this one alone; in words how."""
        content = bytearray(path.read_bytes())
        how = draws.choice(("cut off", "bits flipped", "emptied", "garbage", "hostile"))
        if how == "cut off":
            del content[draws.randrange(1, len(content)) :]
        elif how == "bits flipped":
            start = draws.randrange(len(content))
            for place in range(start, min(start + draws.choice((1, 1, 20)), len(content))):
                content[place] ^= 1 << draws.randrange(8)
        elif how == "emptied":
            content.clear()
        elif how == "garbage":
            content[:] = draws.randbytes(draws.randrange(1, len(content)))
        else:
            content[:] = _hostile(path, draws.random() < 0.5)
        if draws.random() < 0.5:
            os.chmod(path, 0o644)
            path.write_bytes(content)
        else:
            path.unlink()
            path.write_bytes(content)
        self.damaged.add(digest(path))
        return how


def read(path: Path) -> dict[str, Any]:
    """A checkpoint whose checksums are right, without the code under test."""
    with zipfile.ZipFile(path) as archive:
        if (name := archive.testzip()) is not None:
            raise ValueError(f"{path} is damaged: {name}")
    return torch.load(path, weights_only=True)


def _updates(path: Path) -> int | None:
    """Of a checkpoint, if it can be read."""
    try:
        return read(path)["updates"]
    except Exception:  # torch's reader raises nearly anything
        return None


def _hostile(path: Path, whole: bool) -> bytes:
    """A pickle that runs code; inside a checkpoint or plain."""
    if not whole:
        return pickle.dumps({"model": Hostile()})
    other = path.with_name("hostile")
    torch.save({"updates": 10**6, "model": Hostile()}, other)
    content = other.read_bytes()
    other.unlink()
    return content


def _of_text(path: Path, draws: random.Random) -> None:
    content = path.read_bytes() if path.exists() else b""
    cut = content[: draws.randrange(len(content) + 1)]
    path.write_bytes(draws.choice((b"", cut, b"\xff\x00garbage", b"{}", b"null")))


def history(run: Path, cache: Path, audio: Path, draws: random.Random) -> str | None:
    _of_text(run / "history.json", draws)
    return "history.json damaged"


def argv(run: Path, cache: Path, audio: Path, draws: random.Random) -> str | None:
    _of_text(run / ".argv.json", draws)
    return ".argv.json damaged"


def index(run: Path, cache: Path, audio: Path, draws: random.Random) -> str | None:
    files = [path for path in cache.rglob("*") if path.is_file()]
    if not files:
        return None
    _of_text(draws.choice(files), draws)
    return "the scan's index damaged"


def bad_steps(run: Path, cache: Path, audio: Path, draws: random.Random) -> str | None:
    with open(run / "bad_steps.jsonl", "a") as file:
        file.write(draws.choice(('{"update": 3, "epo', "\n\n", '{"update": 1}\n', "null\n")))
    return "bad_steps.jsonl damaged"


def leftovers(run: Path, cache: Path, audio: Path, draws: random.Random) -> str | None:
    for name in draws.sample(("checkpoint.th.tmp", "checkpoint_1.th.tmp", "history.json.tmp"), 2):
        (run / name).write_bytes(draws.randbytes(100))
    return "stray *.tmp files"


def sound(run: Path, cache: Path, audio: Path, draws: random.Random) -> str | None:
    content = draws.choice((b"", b"RIFF", b"text", draws.randbytes(5000)))
    (audio / "broken.wav").write_bytes(content)
    return "an unusable audio file becomes another one"


OTHERS: list[Callable[[Path, Path, Path, random.Random], str | None]] = [
    *(history, argv, index, bad_steps, leftovers, sound)
]
