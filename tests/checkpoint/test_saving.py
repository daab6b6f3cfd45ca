"""A save leaves the old checkpoint or the new one, whole, wherever it is stopped."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import in_child

from adversarial_trainer import checkpoint
from adversarial_trainer.checkpoint import writing

TYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16),
    *(torch.uint32, torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex64, torch.complex128),
]
STATE = {
    "model": {"w": torch.arange(3.0), "steps": torch.tensor(3), "none": torch.zeros(0, 2)},
    "linear": torch.nn.Linear(2, 2).state_dict(),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "view": torch.arange(12.0).view(3, 4).t()[1:],
    "types": [torch.zeros(2, dtype=d) for d in TYPES],
    "rng": torch.get_rng_state(),
    "updates": 2**70,
    "config": "a: 1\n\N{SNOWMAN}",
    "list": [1.0, -1, None, True, (1, (2, "x"))],
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def value(path: Path) -> Any:
    return checkpoint.load(path)["value"]


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.th"
    checkpoint.save(STATE, path)
    state = checkpoint.load(path)
    torch.testing.assert_close(
        {key: state[key] for key in ("model", "linear", "view", "types", "rng")},
        {key: STATE[key] for key in ("model", "linear", "view", "types", "rng")},
        **{"rtol": 0, "atol": 0},
    )
    assert state["linear"]._metadata == STATE["linear"]._metadata  # type: ignore[attr-defined]
    for key in ("updates", "config", "list"):
        assert state[key] == STATE[key]
    assert names(tmp_path) == ["checkpoint.th"]


def test_the_one_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.th"
    for number in range(4):
        checkpoint.save({"value": number}, path)
        assert value(path) == number
        assert number == 0 or value(checkpoint.previous_path(path)) == number - 1
    assert names(tmp_path) == ["checkpoint.th", "checkpoint_previous.th"]


@pytest.mark.parametrize(
    "odd, told",
    [
        (np.float64(1), "it holds numpy._core.multiarray.scalar, and only tensors"),
        (Path("/a"), "it holds pathlib.PosixPath, and only tensors"),
        ({1, 2}, "it holds __builtin__.set"),
        ({(1, 2): 3}, "a key that is no text or number"),
        (torch.zeros(1).expand(9), r"a tensor of shape \[9\] is declared, and its storage has 1"),
        (torch.zeros(2).to_sparse(), "torch._utils._rebuild_sparse_tensor"),
        (torch.zeros(2, device="meta"), "torch._utils._rebuild_meta_tensor_no_storage"),
    ],
    ids=str,
)
def test_what_cannot_be_loaded_is_not_saved(tmp_path: Path, odd: Any, told: str) -> None:
    """PITFALLS 25: it would be found out when the run has to go on from it."""
    path = tmp_path / "checkpoint.th"
    checkpoint.save({"value": 1}, path)
    with pytest.raises(ValueError, match=f"Can't save {path}: .*({told})"):
        checkpoint.save({"value": [odd]}, path)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match=f"Can't save {path}: .*more than 50 levels"):
        checkpoint.save({"value": endless}, path)
    assert value(path) == 1 and names(tmp_path) == ["checkpoint.th"]


class Killed(BaseException):
    """The process is no more."""


class Machine:
    """Does the calls to the operating system until a given one, and none from there on.

    What was written and not flushed to disk by then is lost in part, as in a power cut.
    """

    calls = ("fsync", "replace", "link", "unlink", "chmod", "open")

    def __init__(self, last: int, links: bool) -> None:
        self.last, self.links = last, links
        self.done: list[str] = []
        self.written: dict[int, int] = {}  # inode -> bytes on disk for certain
        self.real = {name: getattr(os, name) for name in self.calls}

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if len(self.done) >= self.last:
            raise Killed
        self.done.append(name)
        if name == "link" and not self.links:
            raise OSError(errno.EPERM, "no hard links here")
        if name == "fsync" and (inode := os.fstat(args[0]).st_ino) in self.written:
            self.written[inode] = os.fstat(args[0]).st_size
        return self.real[name](*args, **kwargs)

    def file(self, path: Path, mode: str) -> io.FileIO:
        machine = self

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                if len(machine.done) >= machine.last:
                    raise Killed
                machine.done.append("write")
                return super().write(data)

        if mode == "rb":
            return io.FileIO(path, mode)
        if len(self.done) >= self.last:
            raise Killed
        self.done.append("create")
        file = File(path, mode)
        self.written[os.fstat(file.fileno()).st_ino] = 0
        return file

    def cut_power(self, folder: Path) -> None:
        for path in folder.iterdir():
            if path.stat().st_ino in self.written:
                path.chmod(0o600)
                os.truncate(path, self.written[path.stat().st_ino])

    @contextmanager
    def running(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in self.calls:
                patch.setattr(os, name, lambda *a, _name=name, **k: self.call(_name, *a, **k))
            patch.setattr(writing, "open", self.file, raising=False)
            yield


def full(number: int) -> dict[str, Any]:
    return {"value": number, "weights": torch.full((500,), float(number))}


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize("step", ["first", "save", "keep_copy", "keep_as"])
def test_stopped_at_each_call(tmp_path: Path, step: str, links: bool) -> None:
    """Every instant of a save, as seen from the disk."""
    happened = 0
    before = tmp_path / "before"
    before.mkdir()
    path = before / "checkpoint.th"
    if step != "first":
        for number in (1, 2):
            checkpoint.save(full(number), path)
            checkpoint.keep_copy(path, number, keep_last=1)
            checkpoint.keep_as(path, "best")
        checkpoint.save(full(3), path)
    for last in range(1000):
        folder = tmp_path / str(last)
        shutil.copytree(before, folder, copy_function=os.link)
        path = folder / "checkpoint.th"
        oldest = newest = 0 if step == "first" else 3
        work: dict[str, Callable[[], None]] = {
            "first": lambda path=path: checkpoint.save(full(4), path),  # type: ignore[misc]
            "save": lambda path=path: checkpoint.save(full(4), path),  # type: ignore[misc]
            "keep_copy": lambda path=path: checkpoint.keep_copy(path, 3, 2, 3),  # type: ignore[misc]
            "keep_as": lambda path=path: checkpoint.keep_as(path, "best"),  # type: ignore[misc]
        }
        if "keep" not in step:
            newest = 4
        machine = Machine(last, links)
        try:
            with machine.running():
                work[step]()
            finished = True
        except Killed:
            finished = False
        machine.cut_power(folder)
        # Every file but those beside is whole.
        for other in folder.glob("*.th"):
            state = checkpoint.load(other)
            assert torch.equal(state["weights"], full(state["value"])["weights"]), machine.done
        found = checkpoint.load_newest(path)
        if step == "first" and found is None:
            assert not finished
        else:
            assert found is not None and found[0] == path, machine.done
            assert found[1]["value"] in (oldest, newest), machine.done
        if step != "first":
            assert value(checkpoint.previous_path(path)) in (2, 3)
            assert value(folder / "checkpoint_best.th") in (2, 3)
        # The run goes on as if nothing had been.
        checkpoint.save(full(5), path)
        assert value(path) == 5 and not list(folder.glob("*.tmp"))
        if finished:
            happened = last
            assert found is not None and found[1]["value"] == newest
            break
    assert happened >= {"first": 8, "save": 10, "keep_copy": 4, "keep_as": 3}[step], happened


def check_refused(path: Path, big: dict[str, Any], number: int) -> str:
    """A save fails with an OSError and changes nothing; its message."""
    before = {name: (path.parent / name).read_bytes() for name in names(path.parent)}
    with pytest.raises(OSError) as error:
        checkpoint.save(big, path)
    assert error.value.errno == number
    assert {name: (path.parent / name).read_bytes() for name in names(path.parent)} == before
    return str(error.value)


BIG = {"value": 3, "weights": torch.zeros(1_000_000)}


def test_a_file_too_large(tmp_path: Path) -> None:
    """For real, by the limit of a process; this is how a quota looks."""
    path = tmp_path / "checkpoint.th"
    checkpoint.save({"value": 1}, path)
    checkpoint.save({"value": 2}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 100, 10_000, 1_000_000, 4_000_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            message = check_refused(path, BIG, errno.EFBIG)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert f"Can't save {path}: File too large (needs 4.0 MB, " in message
        assert message.endswith(" free)")
    checkpoint.save(BIG, path)
    assert value(path) == 3 and value(checkpoint.previous_path(path)) == 2


CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


def no_links(*args: object) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def on_a_small_disk(folder: Path) -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNS if os.getuid() == 0 else CLONE_NEWNS | CLONE_NEWUSER
    if libc.unshare(flags) or libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None):
        return None
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=6m"):
        return None
    path = folder / "checkpoint.th"
    checkpoint.save({"value": 1}, path)
    checkpoint.save(BIG, path)
    message = check_refused(path, {**BIG, "value": 4}, errno.ENOSPC)
    states = value(path), value(checkpoint.previous_path(path))
    with pytest.MonkeyPatch.context() as patch:
        # Where there are no links, two copies do not fit.
        patch.setattr(os, "link", no_links)
        with pytest.raises(OSError, match="_1.th: No space left.*needs 4.0 MB, [12].* MB"):
            checkpoint.keep_copy(path, 1, 1)
    checkpoint.previous_path(path).unlink()
    checkpoint.save({"value": 5}, path)
    return message, states, value(path)


def test_a_full_disk(tmp_path: Path) -> None:
    """A file system of 6 MB, which takes one checkpoint of 4 MB and not two."""
    result = in_child(on_a_small_disk, tmp_path)
    if result is None:
        pytest.skip("this machine lets nobody mount a file system")
    assert len(result) == 3, result
    message, states, last = result
    assert "checkpoint.th: No space left on device (needs 4.0 MB, 2." in message, message
    assert (states, last) == ((3, 1), 5)


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "checkpoint.th"
    with pytest.raises(FileNotFoundError, match=f"Can't save {path}: No such file"):
        checkpoint.save({"value": 1}, path)


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.th"
    checkpoint.save({"value": 1}, path)
    for left in (
        "checkpoint.th",
        "checkpoint_1.th",
        "checkpoint_previous.th",
        "checkpoint_best.th",
    ):
        (tmp_path / f"{left}.tmp").write_bytes(b"half")
    (tmp_path / "other.tmp").write_bytes(b"not ours")
    assert value(path) == 1
    checkpoint.save({"value": 2}, path)
    assert names(tmp_path) == ["checkpoint.th", "checkpoint_previous.th", "other.tmp"]


def test_an_interrupt_stays_an_interrupt(tmp_path: Path) -> None:
    """Torch's writer fails with an error of its own while it unwinds."""
    path = tmp_path / "checkpoint.th"
    for last in range(3, 8):
        with pytest.raises(Killed), Machine(last, links=True).running():
            checkpoint.save(STATE, path)
