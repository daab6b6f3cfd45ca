"""Checkpoints survive crashes, and what is read from them runs nothing."""

from __future__ import annotations

import errno
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adversarial_trainer import checkpoint

STATE = {"model": {"w": torch.arange(3.0)}, "updates": 4, "config": "a: 1\n", "list": [1.0, None]}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def value(path: Path) -> Any:
    return checkpoint.load(path)["value"]


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.th"
    checkpoint.save(STATE, path)
    state = checkpoint.load(path)
    assert torch.equal(state["model"].pop("w"), STATE["model"]["w"])  # type: ignore[index]
    assert state == {**STATE, "model": {}}
    assert names(tmp_path) == ["checkpoint.th"]


class Unpicklable:
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("not this")


class FullDisk:
    """A file that takes some bytes, and then no more."""

    def __init__(self, path: Path, mode: str) -> None:
        self.file = open(path, mode)
        self.room = 200

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            self.file.write(data[: self.room])
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()


@pytest.mark.parametrize("fault", ["unpicklable", "full disk", "crash before the rename"])
def test_a_failed_save_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    path = tmp_path / "checkpoint.th"
    checkpoint.save({"value": 1}, path)
    before = path.read_bytes()
    state: dict[str, Any] = {"value": 2, "weights": torch.zeros(1000)}
    with monkeypatch.context() as patch:
        if fault == "unpicklable":
            state["x"] = Unpicklable()
        elif fault == "full disk":
            patch.setattr(checkpoint, "open", FullDisk, raising=False)
        else:

            def interrupt(*args: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(os, "replace", interrupt)
        with pytest.raises((OSError, RuntimeError, pickle.PicklingError, KeyboardInterrupt)):
            checkpoint.save(state, path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["checkpoint.th"]
    checkpoint.save({"value": 3}, path)
    assert value(path) == 3 and names(tmp_path) == ["checkpoint.th"]


def test_what_a_killed_save_left_is_no_obstacle(tmp_path: Path) -> None:
    """SIGKILL or a power cut leave half a file beside the old one."""
    path = tmp_path / "checkpoint.th"
    checkpoint.save({"value": 1}, path)
    (tmp_path / "checkpoint.th.tmp").write_bytes(b"half")
    (tmp_path / "checkpoint_1.th.tmp").write_bytes(b"half")
    assert value(path) == 1
    checkpoint.save({"value": 2}, path)
    checkpoint.keep_copy(path, 1, keep_last=1)
    assert value(path) == value(tmp_path / "checkpoint_1.th") == 2
    assert names(tmp_path) == ["checkpoint.th", "checkpoint_1.th"]


class Payload:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "protocol, reason", [(None, "it holds posix.system, "), (2, "it holds posix.system, "), (5, "")]
)
def test_hostile_checkpoint_is_refused_and_not_run(
    tmp_path: Path, protocol: int | None, reason: str
) -> None:
    marker, path = tmp_path / "ran", tmp_path / "checkpoint.th"
    state = {"model": Payload(f"touch {marker}")}
    if protocol is None:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state, protocol))
    with pytest.raises(ValueError) as error:
        checkpoint.load(path)
    assert str(error.value).startswith(f"Can't read checkpoint {path}: {reason}")
    assert "\n" not in str(error.value)
    assert not marker.exists()
    os.system(f"touch {marker}")
    assert marker.exists()  # the payload would have


def test_objects_other_than_plain_ones_are_refused(tmp_path: Path) -> None:
    """PITFALLS 25: such as AudioCraft's pickled OmegaConf configuration."""
    path = tmp_path / "checkpoint.th"
    torch.save({"folder": Path("/a")}, path)
    with pytest.raises(
        ValueError, match=f"Can't read checkpoint {path}: it holds pathlib.PosixPath"
    ):
        checkpoint.load(path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.th"
    checkpoint.save(STATE, path)
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"Can't read checkpoint {path}: damaged") as error:
            checkpoint.load(path)
        assert "\n" not in str(error.value)
    for other in ([1, 2], torch.zeros(2)):
        torch.save(other, path)
        with pytest.raises(ValueError, match=f"{path} holds a (list|Tensor)"):
            checkpoint.load(path)
    for missing in (tmp_path / "nothing.th", tmp_path):
        with pytest.raises(FileNotFoundError, match=str(missing)):
            checkpoint.load(missing)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_bytes_load_or_give_a_value_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "checkpoint.th"
    content = data.draw(st.sampled_from([legacy_pickle(), bytearray(), zipped()]))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content)))
        content[position : position + 1] = data.draw(st.binary(max_size=8))
    path.write_bytes(content)
    try:
        assert isinstance(checkpoint.load(path), dict)
    except ValueError as error:
        assert str(path) in str(error)


def legacy_pickle() -> bytearray:
    return bytearray(pickle.dumps({"a": [1, 2.5, "x"], "b": {"c": None}}, protocol=2))


def zipped() -> bytearray:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2), "b": [1]}, buffer)
    return bytearray(buffer.getvalue())


def keep(path: Path, epochs: range, keep_last: int) -> list[str]:
    for epoch in epochs:
        checkpoint.save({"value": epoch}, path)
        checkpoint.keep_copy(path, epoch, keep_last)
    return [copy.name for copy in checkpoint.copies(path)]


@pytest.mark.parametrize(
    "keep_last, kept", [(0, []), (1, [11]), (3, [9, 10, 11]), (99, list(range(1, 12)))]
)
def test_the_newest_copies_are_kept(tmp_path: Path, keep_last: int, kept: list[int]) -> None:
    """PITFALLS 21: AudioCraft ignores keep_last. In order of numbers: 9 is older than 10."""
    path = tmp_path / "checkpoint.th"
    expected = [f"checkpoint_{epoch}.th" for epoch in kept]
    assert keep(path, range(1, 12), keep_last) == expected
    assert names(tmp_path) == sorted(["checkpoint.th", *expected])
    assert [value(tmp_path / name) for name in expected] == kept


def test_keep_last_may_change(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.th"
    others = ["checkpoint_best.th", "checkpoint_3.th.bak", "other_1.th", "checkpoint_1_2.th"]
    for name in others:
        (tmp_path / name).touch()
    assert len(keep(path, range(1, 5), 3)) == 3
    assert keep(path, range(5, 6), 1) == ["checkpoint_5.th"]
    assert keep(path, range(6, 8), 2) == ["checkpoint_6.th", "checkpoint_7.th"]
    assert keep(path, range(8, 9), 0) == []
    assert names(tmp_path) == sorted(["checkpoint.th", *others])
    with pytest.raises(ValueError, match="keep_last must be >= 0, got -1"):
        checkpoint.keep_copy(path, 9, -1)


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_does_not_change_at_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def refuse(*args: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    path, copy = tmp_path / "checkpoint.th", tmp_path / "checkpoint_1.th"
    checkpoint.save({"value": "old"}, path)
    checkpoint.keep_copy(path, 1, 2)
    assert path.samefile(copy) == links
    checkpoint.keep_copy(path, 1, 2)  # again, as a run does that was stopped right after
    assert names(tmp_path) == ["checkpoint.th", "checkpoint_1.th"]
    checkpoint.save({"value": "new"}, path)
    assert (value(copy), value(path)) == ("old", "new")
    checkpoint.keep_copy(path, 1, 2)
    assert value(copy) == "new" and names(tmp_path) == ["checkpoint.th", "checkpoint_1.th"]
