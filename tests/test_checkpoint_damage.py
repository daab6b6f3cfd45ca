"""Checkpoints that are damaged, hostile, or unreadable."""

from __future__ import annotations

import errno
import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import Call

from adversarial_trainer import checkpoint

STATE = {
    "weights": torch.linspace(0, 1, 17, dtype=torch.float64),
    "flags": torch.tensor([True, False]),
    "history": [{"train": {"loss": 0.25}}, {"train": {"loss": 0.125}}],
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.th"


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
        *("checkpoint.th.damaged", "checkpoint.th.damaged2", "checkpoint_3.th"),
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


@pytest.mark.parametrize("odd", ["folder", "pipe", "link to a device"])
def test_what_is_no_file_is_damaged(run: Path, odd: str) -> None:
    run.unlink()
    if odd == "folder":
        run.mkdir()
    elif odd == "pipe":
        os.mkfifo(run)
    else:
        run.symlink_to("/dev/zero")
    found = checkpoint.load_newest(run)
    assert found is not None and found[1] == {"value": 4}
    assert os.path.lexists(f"{run}.damaged") and not os.path.lexists(run)


def test_a_file_that_cannot_be_read_now_is_not_damaged(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(number: int) -> Any:
        def fail(path: Path) -> Any:
            if path == run:
                raise OSError(number, os.strerror(number))
            return zip_file(path)

        return fail

    zip_file = zipfile.ZipFile
    monkeypatch.setattr(checkpoint.zipfile, "ZipFile", failing(errno.ESTALE))
    with pytest.raises(OSError, match="Stale file handle"):
        checkpoint.load_newest(run)
    monkeypatch.setattr(checkpoint.zipfile, "ZipFile", failing(errno.EIO))
    found = checkpoint.load_newest(run)
    assert found is not None and found[1] == {"value": 4}


def test_a_flipped_bit_is_noticed(path: Path) -> None:
    """Anywhere in the tensors, where torch itself does not see it, and in the pickle."""
    checkpoint.save(STATE, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        starts = {i: whole.index(archive.read(i), i.header_offset) for i in archive.infolist()}
    data = [n for i, start in starts.items() for n in range(start, start + i.file_size)]
    for position in random.Random(0).sample(data, 200):
        content = bytearray(whole)
        content[position] ^= 16
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"Can't read checkpoint {path}: "):
            checkpoint.load(path)


def test_truncated(path: Path) -> None:
    checkpoint.save(STATE, path)
    whole = path.read_bytes()
    for length in (0, 1, 22, *range(100, len(whole), 397), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"Can't read checkpoint {path}: ") as error:
            checkpoint.load(path)
        assert "\n" not in str(error.value)


# -- hostile files


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that code in a checkpoint would create."""
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()


def test_code_is_refused_and_not_run(path: Path, marker: Path) -> None:
    for call in (Call(os.system, f"touch {marker}"), Call(eval, f"open({str(marker)!r}, 'w')")):
        for state in ({"model": call}, {call: 1}, [torch.zeros(2), call]):
            torch.save(state, path)
            with pytest.raises(
                ValueError, match=r"it holds (posix.system|eval), and only"
            ) as error:
                checkpoint.load(path)
            assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_other_formats_are_refused(path: Path, marker: Path) -> None:
    code = pickle.dumps(Call(os.system, f"touch {marker}"))
    path.write_bytes(code)
    with pytest.raises(ValueError, match="Can't read"):
        checkpoint.load(path)
    torch.save({"value": 1}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="Can't read"):
        checkpoint.load(path)
    other = path.with_name("pickle")
    other.write_bytes(code)
    with tarfile.open(path, "w") as archive:
        archive.add(other, "pickle")
    with pytest.raises(ValueError, match="Can't read"):
        checkpoint.load(path)


def test_what_is_no_dictionary_is_named(path: Path) -> None:
    for other, kind in (([1, 2], "list"), (torch.zeros(2), "Tensor"), ("text", "str")):
        torch.save(other, path)
        with pytest.raises(ValueError, match=f"{path}: it holds a {kind}, not a dictionary"):
            checkpoint.load(path)
