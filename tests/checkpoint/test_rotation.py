"""Which checkpoints are kept, and which one a run goes on from."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from adversarial_trainer import checkpoint


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def value(path: Path) -> Any:
    return checkpoint.load(path)["value"]


def keep(path: Path, epochs: range, keep_last: int, keep_every: int = 0) -> list[int]:
    """Epochs of which there is a copy in the end."""
    for epoch in epochs:
        checkpoint.save({"value": epoch}, path)
        checkpoint.keep_copy(path, epoch, keep_last, keep_every)
    kept = [int(copy.stem.partition("_")[2]) for copy in checkpoint.copies(path)]
    assert [value(copy) for copy in checkpoint.copies(path)] == kept
    return kept


@pytest.mark.parametrize(
    "keep_last, keep_every, kept",
    [
        (0, 0, []),
        (1, 0, [11]),
        (3, 0, [9, 10, 11]),
        (99, 0, list(range(1, 12))),
        (0, 5, [5, 10]),
        (3, 4, [4, 8, 9, 10, 11]),
        (1, 11, [11]),
        (0, 1, list(range(1, 12))),
    ],
)
def test_the_last_ones_and_each_so_many_are_kept(
    tmp_path: Path, keep_last: int, keep_every: int, kept: list[int]
) -> None:
    """PITFALLS 21: AudioCraft ignores keep_last. In order of numbers: 9 is older than 10."""
    path = tmp_path / "checkpoint.th"
    assert keep(path, range(1, 12), keep_last, keep_every) == kept
    copies = [f"checkpoint_{epoch}.th" for epoch in kept]
    assert names(tmp_path) == sorted(["checkpoint.th", "checkpoint_previous.th", *copies])


def test_settings_may_change(tmp_path: Path) -> None:
    """What was kept for ever stays; what was to rotate out does."""
    path = tmp_path / "checkpoint.th"
    others = ["checkpoint_3.th.bak", "other_1.th", "checkpoint_1_2.th", "checkpoint_best.th"]
    for name in others:
        (tmp_path / name).touch()
    assert keep(path, range(1, 6), 3) == [3, 4, 5]
    assert keep(path, range(6, 7), 1) == [6]
    assert keep(path, range(7, 11), 2, 4) == [8, 9, 10]
    assert keep(path, range(11, 13), 1, 6) == [8, 12]
    assert keep(path, range(13, 14), 2) == [8, 12, 13]
    assert keep(path, range(14, 15), 0) == [8, 12]
    assert set(others) < set(names(tmp_path))
    for wrong in ({"keep_last": -1}, {"keep_last": 1, "keep_every": -1}):
        with pytest.raises(ValueError, match=r"checkpoint.keep_(last|every) must be >= 0, got -1"):
            checkpoint.keep_copy(path, 9, **wrong)


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_does_not_change_at_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def refuse(*args: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    path, copy, best = (tmp_path / f"checkpoint{end}.th" for end in ("", "_1", "_best"))
    checkpoint.save({"value": "old"}, path)
    for _ in range(2):  # again, as a run does that was stopped right after
        checkpoint.keep_copy(path, 1, 2, 1)
        checkpoint.keep_as(path, "best")
        assert path.samefile(copy) == path.samefile(best) == links
        assert names(tmp_path) == ["checkpoint.th", "checkpoint_1.th", "checkpoint_best.th"]
    checkpoint.save({"value": "new"}, path)
    previous = checkpoint.previous_path(path)
    assert [value(p) for p in (copy, best, previous, path)] == ["old", "old", "old", "new"]
    checkpoint.keep_copy(path, 1, 2, 1)
    checkpoint.keep_as(path, "best")
    assert [value(p) for p in (copy, best, previous, path)] == ["new", "new", "old", "new"]


@pytest.mark.parametrize("name", ["previous", "1", "", "../best", "a_b", "best.th", "Best"])
def test_a_name_to_keep_is_a_word(tmp_path: Path, name: str) -> None:
    path = tmp_path / "checkpoint.th"
    checkpoint.save({"value": 1}, path)
    with pytest.raises(ValueError, match="cannot be kept as"):
        checkpoint.keep_as(path, name)
    assert names(tmp_path) == ["checkpoint.th"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's checkpoint of epoch 5 with those before: 4 as the previous, 3 and 4 as copies."""
    path = tmp_path / "checkpoint.th"
    keep(path, range(1, 5), keep_last=2)
    checkpoint.save({"value": 5}, path)
    return path


def damage(path: Path) -> None:
    """Flip a bit. In place: all names of the file have it."""
    content = bytearray(path.read_bytes())
    content[content.index(b"value")] ^= 4
    path.write_bytes(content)


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_best.th").touch()
    (tmp_path / "checkpoint.th.tmp").touch()
    assert checkpoint.load_newest(tmp_path / "checkpoint.th") is None


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
    # Killed here and started again: the same.
    assert newest() == ("checkpoint_previous.th", 4)

    checkpoint.save({"value": 6}, run)
    assert value(checkpoint.previous_path(run)) == 4, "the damaged one is not the one before"
    assert newest() == ("checkpoint.th", 6)

    # The previous one and the copy of epoch 4 are one file: read once, and both set aside.
    damage(run)
    damage(checkpoint.previous_path(run))
    caplog.clear()
    assert newest() == ("checkpoint_3.th", 3)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 4 and "is the same file as checkpoint_previous.th" in told[2]
    assert names(run.parent) == [
        *("checkpoint.th.damaged", "checkpoint.th.damaged2", "checkpoint_3.th"),
        *("checkpoint_4.th.damaged", "checkpoint_previous.th.damaged"),
    ]


@pytest.mark.parametrize("odd", ["folder", "pipe", "broken link", "empty", "device"])
def test_what_is_no_file_is_damaged(run: Path, odd: str) -> None:
    run.unlink()
    if odd == "folder":
        run.mkdir()
    elif odd == "pipe":
        os.mkfifo(run)
    elif odd == "empty":
        run.touch()
    else:
        run.symlink_to("/nowhere" if odd == "broken link" else "/dev/zero")
    found = checkpoint.load_newest(run)
    assert found is not None and found[1] == {"value": 4}
    assert os.path.lexists(f"{run}.damaged") and not os.path.lexists(run)


def test_all_damaged(run: Path) -> None:
    """The run does not start over by itself, however often it is tried."""
    for path in run.parent.iterdir():
        path.write_bytes(b"gone")
    for _ in range(2):
        with pytest.raises(ValueError, match="No checkpoint of this run can be read") as error:
            checkpoint.load_newest(run)
        for path in (run, checkpoint.previous_path(run), *checkpoint.copies(run)):
            assert str(path) in str(error.value)
        assert str(error.value).endswith("start anew with `dora run --clear ...`.")
        assert "\n" not in str(error.value)
    assert not list(run.parent.glob("*.damaged*"))


def test_a_file_that_cannot_be_read_now_is_not_damaged(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adversarial_trainer.checkpoint import reading

    def failing(number: int) -> Any:
        def fail(path: Path, mode: str) -> Any:
            if path == run:
                raise OSError(number, os.strerror(number))
            return open(path, mode)

        return fail

    monkeypatch.setattr(reading, "open", failing(errno.ESTALE), raising=False)
    with pytest.raises(OSError, match="Stale file handle"):
        checkpoint.load_newest(run)
    assert run.exists()
    monkeypatch.setattr(reading, "open", failing(errno.EIO), raising=False)
    found = checkpoint.load_newest(run)
    assert found is not None and found[1] == {"value": 4}
