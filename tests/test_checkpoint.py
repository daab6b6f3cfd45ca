"""Checkpoints: saved whole or not at all, kept, and noticed where they are damaged or hostile."""

from __future__ import annotations

import errno
import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import Call
from micro import differences

from adversarial_trainer import checkpoint

TYPES = [
    *(torch.bool, torch.int8, torch.uint16, torch.uint64, torch.bfloat16, torch.float64),
    *(torch.complex64, torch.float8_e4m3fn),
]
STATE = {
    "model": {"w": torch.arange(3.0), "steps": torch.tensor(3), "none": torch.zeros(0, 2)},
    "linear": torch.nn.Linear(2, 2).state_dict(),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "view": torch.arange(12.0).view(3, 4).t()[1:],
    "rng": torch.get_rng_state(),
    "updates": 2**70,
    "config": "a: 1\n\N{SNOWMAN}",
    "list": [1.0, -1, None, True, (1, (2, "x")), {1, "x"}, {(1, 2): 3}, torch.Size([2])],
    "bytes": [b"bytes", bytearray(b"x"), torch.float8_e5m2],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.th"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def value(path: Path) -> Any:
    return checkpoint.load(path)["value"]


# -- saving


def test_round_trip(path: Path) -> None:
    whole = STATE | {"types": [torch.zeros(2, dtype=dtype) for dtype in TYPES]}
    checkpoint.save(whole, path)
    state = checkpoint.load(path)
    assert differences(state, whole) == []
    assert state["linear"]._metadata == STATE["linear"]._metadata  # type: ignore[attr-defined]
    assert names(path.parent) == ["checkpoint.th"]


@pytest.mark.parametrize(
    "odd, told",
    [(np.float64(1), "numpy._core.multiarray.scalar"), (Path("/a"), "pathlib.PosixPath")],
)
def test_what_cannot_be_loaded_is_not_saved(path: Path, odd: Any, told: str) -> None:
    """Otherwise the error would come when the run is resumed."""
    checkpoint.save({"value": 1}, path)
    with pytest.raises(ValueError, match=f"Can't save {path}: it holds {told}, and only tensors"):
        checkpoint.save({"value": [odd]}, path)
    assert value(path) == 1 and names(path.parent) == ["checkpoint.th"]


class Stopped(BaseException):
    """The process ends at a call to the operating system."""


@contextmanager
def stopped_after(last: int, links: bool = True) -> Iterator[list[str]]:
    """Raise Stopped after `last` calls to the operating system; yield their names."""
    calls: list[str] = []

    def replaced(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any) -> Any:
            if len(calls) >= last:
                raise Stopped
            calls.append(name)
            if name == "link" and not links:
                raise OSError(errno.EPERM, "no hard links here")
            return real(*args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "link", "replace", "unlink"):
            patch.setattr(os, name, replaced(name))
        yield calls


@pytest.mark.parametrize("links", [True, False])
def test_stopped_at_each_call(tmp_path: Path, links: bool) -> None:
    """The old state or the new one can be loaded, and the next save works."""
    for last in range(40):
        path = tmp_path / str(last) / "checkpoint.th"
        path.parent.mkdir()
        for number in (1, 2):
            checkpoint.save({"value": number}, path)
            checkpoint.keep_copy(path, number, keep_last=1)
        finished = False
        with stopped_after(last, links) as calls, suppress(Stopped):
            checkpoint.save({"value": 3}, path)
            checkpoint.keep_copy(path, 3, keep_last=1)
            finished = True
        for other in path.parent.glob("*.th"):
            assert value(other) in (1, 2, 3), calls
        found = checkpoint.load_newest(path)
        assert found is not None and found[0] == path and found[1]["value"] in (2, 3), calls
        checkpoint.save({"value": 4}, path)
        assert value(path) == 4 and not list(path.parent.glob("*.tmp"))
        if finished:
            assert found[1]["value"] == 3
            return
    raise AssertionError("it never finishes")


# -- rotation


def keep(path: Path, epochs: range, keep_last: int, keep_every: int = 0) -> list[int]:
    """Save and keep copies; returns the epochs of which there is a copy in the end."""
    for epoch in epochs:
        checkpoint.save({"value": epoch}, path)
        checkpoint.keep_copy(path, epoch, keep_last, keep_every)
    kept = [int(copy.stem.partition("_")[2]) for copy in checkpoint.copies(path)]
    assert [value(copy) for copy in checkpoint.copies(path)] == kept
    return kept


@pytest.mark.parametrize(
    "keep_last, keep_every, kept",
    [(0, 0, []), (3, 0, [9, 10, 11]), (0, 5, [5, 10]), (3, 4, [4, 8, 9, 10, 11]), (1, 11, [11])],
)
def test_the_last_and_every_so_many_are_kept(
    path: Path, keep_last: int, keep_every: int, kept: list[int]
) -> None:
    """Sorted by number: 9 is older than 10. What others have left stays."""
    others = ["checkpoint_3.th.bak", "other_1.th", "checkpoint_1_2.th", "checkpoint_best.th"]
    for name in others:
        (path.parent / name).touch()
    assert keep(path, range(1, 12), keep_last, keep_every) == kept
    copies = [f"checkpoint_{epoch}.th" for epoch in kept]
    ours = ["checkpoint.th", "checkpoint_previous.th", *copies]
    assert names(path.parent) == sorted([*ours, *others])


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_does_not_change_at_the_next_save(
    path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def refuse(*args: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    copy, best = (path.with_name(f"checkpoint_{name}.th") for name in ("1", "best"))
    checkpoint.save({"value": "old"}, path)
    for _ in range(2):  # repeated, as after a kill
        checkpoint.keep_copy(path, 1, 2, 1)
        checkpoint.keep_as(path, "best")
        assert path.samefile(copy) == path.samefile(best) == links
    checkpoint.save({"value": "new"}, path)
    previous = checkpoint.previous_path(path)
    assert [value(p) for p in (copy, best, previous, path)] == ["old", "old", "old", "new"]
    checkpoint.keep_as(path, "best")
    assert [value(p) for p in (copy, best, previous, path)] == ["old", "new", "old", "new"]


# -- damaged and hostile files


@pytest.fixture
def run(path: Path) -> Path:
    """A run's checkpoint of epoch 5 with those before: 4 as the previous, 3 and 4 as copies."""
    for epoch in range(1, 6):
        checkpoint.save({"value": epoch}, path)
        if epoch < 5:
            checkpoint.keep_copy(path, epoch, keep_last=2)
    return path


def damage(path: Path) -> None:
    """Flip a bit, in place: all names of the file have it."""
    content = bytearray(path.read_bytes())
    content[content.index(b"value")] ^= 4
    path.write_bytes(content)


def test_damaged_ones_are_set_aside(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    def newest() -> tuple[str, int]:
        found = checkpoint.load_newest(run)
        assert found is not None
        return found[0].name, found[1]["value"]

    assert newest() == ("checkpoint.th", 5) and not caplog.records
    damage(run)
    assert newest() == ("checkpoint_previous.th", 4)
    error, warning = (record.getMessage() for record in caplog.records)
    assert error.startswith(f"Can't read checkpoint {run}: damaged")
    assert error.endswith("It is now called checkpoint.th.damaged.")
    assert "older checkpoint" in warning and "checkpoint_previous.th" in warning
    assert newest() == ("checkpoint_previous.th", 4)

    checkpoint.save({"value": 6}, run)
    assert checkpoint.load(checkpoint.previous_path(run)) == {"value": 4}
    assert newest() == ("checkpoint.th", 6)
    damage(run)
    damage(checkpoint.previous_path(run))  # the copy of epoch 4 is the same file
    assert newest() == ("checkpoint_3.th", 3)
    assert names(run.parent) == [
        *("checkpoint.th.damaged", "checkpoint_3.th"),
        *("checkpoint_4.th.damaged", "checkpoint_previous.th.damaged"),
    ]


def test_all_damaged(run: Path) -> None:
    """The run does not start over by itself."""
    for path in run.parent.iterdir():
        path.write_bytes(b"gone")
    for _ in range(2):
        with pytest.raises(ValueError, match="No checkpoint of this run can be read") as error:
            checkpoint.load_newest(run)
        for path in (run, checkpoint.previous_path(run), *checkpoint.copies(run)):
            assert str(path) in str(error.value)
        assert str(error.value).endswith("start anew with `dora run --clear ...`.")
    assert not list(run.parent.glob("*.damaged*"))


def test_nothing_there(path: Path) -> None:
    path.with_name("checkpoint_best.th").touch()
    assert checkpoint.load_newest(path) is None
    with pytest.raises(FileNotFoundError, match=f"No checkpoint at {path}"):
        checkpoint.load(path)


def test_a_flipped_bit_or_a_missing_end_is_noticed(path: Path) -> None:
    """Anywhere in the tensors, where torch itself does not see it, and in the pickle."""
    checkpoint.save(STATE, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        starts = {i: whole.index(archive.read(i), i.header_offset) for i in archive.infolist()}
    data = [n for i, start in starts.items() for n in range(start, start + i.file_size)]
    wrong = [whole[:length] for length in (0, 1, 22, *range(100, len(whole), 797), len(whole) - 1)]
    for position in random.Random(0).sample(data, 100):
        content = bytearray(whole)
        content[position] ^= 16
        wrong.append(bytes(content))
    for content in wrong:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"Can't read checkpoint {path}: ") as error:
            checkpoint.load(path)
        assert "\n" not in str(error.value)


def test_code_is_refused_and_not_run(path: Path) -> None:
    """In torch's format, in its older ones, and as a bare pickle."""
    marker = path.with_name("ran")
    for call in (Call(os.system, f"touch {marker}"), Call(eval, f"open({str(marker)!r}, 'w')")):
        for state in ({"model": call}, {call: 1}, [torch.zeros(2), call]):
            torch.save(state, path)
            told = r"it holds (posix.system|eval), and only"
            with pytest.raises(ValueError, match=told) as error:
                checkpoint.load(path)
            assert "\n" not in str(error.value) and len(str(error.value)) < 300
    code = pickle.dumps(Call(os.system, f"touch {marker}"))
    path.write_bytes(code)
    with pytest.raises(ValueError, match="Can't read"):
        checkpoint.load(path)
    torch.save({"value": 1}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="Can't read"):
        checkpoint.load(path)
    path.with_name("pickle").write_bytes(code)
    with tarfile.open(path, "w") as archive:
        archive.add(path.with_name("pickle"), "pickle")
    with pytest.raises(ValueError, match="Can't read"):
        checkpoint.load(path)
    assert not marker.exists()


def test_what_is_no_dictionary_or_no_file_is_named(path: Path) -> None:
    for other, kind in (([1, 2], "list"), (torch.zeros(2), "Tensor"), ("text", "str")):
        torch.save(other, path)
        with pytest.raises(ValueError, match=f"{path}: it holds a {kind}, not a dictionary"):
            checkpoint.load(path)
    path.unlink()
    os.mkfifo(path)  # reading it would not end
    with pytest.raises(ValueError, match="not a file"):
        checkpoint.load(path)
