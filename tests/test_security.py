"""Files made by somebody else are read without running them, without hanging, in bounded memory."""

from __future__ import annotations

import builtins
import gzip
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from children import in_child
from hostile import (
    Call,
    call,
    nested_lists,
    nested_tuples,
    ops,
    repacked,
    state,
    storage,
    tensor,
    write_archive,
)
from micro import make_solver, write_audio
from omegaconf import OmegaConf

from adversarial_trainer import checkpoint
from adversarial_trainer.data import load_manifest, scan
from adversarial_trainer.data.scanning import cache_path
from solvers.generation import sample_name
from solvers.weights import load_into

MEMORY = 300 << 20  # bytes that refusing a file may take; the state itself is smaller by far
WEIGHTS = {"0": bytes(16)}


def refusal(path: Path, memory: int = MEMORY) -> str:
    """Why `checkpoint.load` refuses a file: found out quickly, with little memory."""
    begin = time.monotonic()
    kind, message = in_child(checkpoint.load, path, memory=memory)
    assert time.monotonic() - begin < 20
    assert kind == "ValueError" and "\n" not in message, (kind, message)
    start = f"Can't read checkpoint {path}: "
    assert message.startswith(start) and len(message) < len(start) + 300
    return message[len(start) :]


def test_what_is_refused_below_would_be_a_checkpoint(tmp_path: Path) -> None:
    """The files of these tests differ from good ones in what is wrong with them, and only there."""
    path = tmp_path / "checkpoint.th"
    write_archive(path, state(tensor()), WEIGHTS)
    assert torch.equal(checkpoint.load(path)["model"], torch.zeros(4))
    repacked(path, lambda info, data: (info, data))
    assert torch.equal(checkpoint.load(path)["model"], torch.zeros(4))


RUNNING: dict[str, Callable[[str], Call]] = {
    "os.system": lambda line: Call(os.system, line),
    "subprocess.Popen": lambda line: Call(subprocess.Popen, line, -1, None, None, None, None, None,
                                          True, True),
    "builtins.eval": lambda line: Call(builtins.eval, f"__import__('os').system({line!r})"),
    "builtins.exec": lambda line: Call(builtins.exec, f"import os; os.system({line!r})"),
    "os.execl by getattr": lambda line: Call(
        getattr, Call(__import__, "os"), "execl"  # type: ignore[arg-type]
    ),
    "torch.load itself": lambda line: Call(torch.load, line, None, None),
    "a function of torch": lambda line: Call(torch.hub.load, line, "x"),
}  # fmt: skip
PLACES: dict[str, Callable[[bytes], bytes]] = {
    "a value": state,
    "a key": lambda code: b"\x80\x02}" + code + b"Ns.",
    "a storage": lambda code: state(tensor(of=code)),
    "a storage's name": lambda code: state(
        tensor(of=b"(" + ops("storage") + b"ctorch\nFloatStorage\n" + code + b"X\3\0\0\0cpuK\4tQ")
    ),
    "a persistent id": lambda code: state(code + b"Q"),
    "a size": lambda code: state(
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + ops(0) + code + ops((1,))
        + b"\x89ccollections\nOrderedDict\n)RtR"
    ),
    "what is thrown away": lambda code: b"\x80\x02" + code + b"0}.",
    "attributes": lambda code: state(b"ccollections\nOrderedDict\n)R}" + ops("x") + code + b"sb"),
    "a parameter": lambda code: state(call("torch._utils", "_rebuild_parameter", code + b"\x89}")),
    "a rebuilt type": lambda code: state(
        call("torch._tensor", "_rebuild_from_type_v2", code + b"N)}")
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("payload", RUNNING)
def test_code_is_refused_and_not_run(tmp_path: Path, payload: str, place: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "checkpoint.th"
    code = ops(RUNNING[payload](f"touch {marker}"))
    write_archive(path, PLACES[place](code), WEIGHTS)
    message = refusal(path)
    assert message.startswith("it holds ") or "its pickle" in message
    assert not marker.exists()


@pytest.mark.parametrize("payload", list(RUNNING)[:4])
def test_the_code_would_have_run(tmp_path: Path, payload: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "checkpoint.th"
    write_archive(path, state(ops(RUNNING[payload](f"touch {marker}"))))
    loaded = in_child(load_carelessly, path)
    deadline = time.monotonic() + 5
    while not marker.exists() and time.monotonic() < deadline:  # Popen does not wait
        time.sleep(0.01)
    assert marker.exists(), loaded


def load_carelessly(path: Path) -> str:
    return str(torch.load(path, weights_only=False))


@pytest.mark.parametrize("form", ["pickle", "old torch", "tar"])
def test_other_formats_are_refused(tmp_path: Path, form: str) -> None:
    """`save` writes none of them, and torch reads all."""
    path, marker = tmp_path / "checkpoint.th", tmp_path / "ran"
    held = {"model": Call(os.system, f"touch {marker}")}
    if form == "old torch":
        torch.save({"model": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
        assert torch.load(path, weights_only=True)
    else:
        path.write_bytes(pickle.dumps(held))
        if form == "tar":
            with tarfile.open(tmp_path / "x.tar", "w") as tar:
                tar.add(path, "pickle")
            path = tmp_path / "x.tar"
    assert refusal(path) == "damaged, or no checkpoint (File is not a zip file)."
    assert not marker.exists()


HUGE = 10**12
BOMBS: dict[str, tuple[bytes, str]] = {
    "a large tensor": (state(tensor((HUGE,), numel=HUGE)), "storage '0' is declared as 1000"),
    "an expanded tensor": (state(tensor((HUGE,), (0,))), r"a tensor of shape \[1000000000000\]"),
    "many dimensions": (state(tensor((2,) * 4000, (0,) * 4000)), "an odd tensor"),
    "beyond its storage": (state(tensor((5,))), r"a tensor of shape \[5\]"),
    "after its storage": (state(tensor(offset=1)), r"a tensor of shape \[4\]"),
    "before its storage": (state(tensor(offset=-1)), "an odd tensor"),
    "negative size": (state(tensor((-4,))), "an odd tensor"),
    "negative stride": (state(tensor((4,), (-1,))), "an odd tensor"),
    "negative storage": (state(tensor(numel=-4)), "an odd storage"),
    "size as text": (state(tensor(("4",))), "an odd tensor"),
    "a storage of another name": (state(tensor(name="../1")), "storage '../1' is missing"),
    "a storage of two types": (
        state(b"]" + tensor() + b"a" + tensor(numel=2, kind=b"ctorch\nDoubleStorage\n") + b"a"),
        "a storage twice",
    ),
    "bytearray": (state(call("builtins", "bytearray", ops(HUGE))), "it holds builtins.bytearray"),
    "torch.Tensor": (state(call("torch", "Tensor", ops(HUGE))), "it holds torch.Tensor"),
    "UntypedStorage": (state(call("torch.storage", "UntypedStorage", ops(HUGE))), "an odd call"),
    "wrapper": (
        state(call("torch._utils", "_rebuild_wrapper_subclass", b"N")),
        "it holds torch._utils._rebuild_wrapper_subclass",
    ),
    "a key to hash for years": (
        b"\x80\x02}" + nested_tuples(60) + b"Ns.", "a key that is no text or number"
    ),
    "a billion laughs": (state(nested_lists(40)), "more than 1,000,000 containers"),
    "a billion laughs of tuples": (state(nested_tuples(40)), "more than 1,000,000 containers"),
    "deep": (state(b"]" * 100_000 + b"a" * 99_999), "more than 50 levels"),
    "a list in itself": (state(b"]q\0h\0a"), "more than 50 levels"),
    "a long number": (state(b"\x8b" + (2**31 - 1).to_bytes(4, "little")), "damaged"),
    "a long text": (state(b"X" + (2**32 - 1).to_bytes(4, "little")), "damaged"),
    "a long text, protocol 4": (state(b"\x8d" + (2**60).to_bytes(8, "little")), "damaged"),
    "a full memo": (state(b"Nr\xff\xff\xff\xff"), ""),
    "millions of values": (state(b"](" + b"N" * 10_000_000 + b"e"), "too many values"),
    "no end": (b"\x80\x02}", "damaged"),
    "nothing": (b"\x80\x02.", "damaged"),
    "unbalanced": (b"\x80\x02}ues.", "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_does_not_become_large(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "checkpoint.th"
    pickled, told = BOMBS[bomb]
    write_archive(path, pickled, WEIGHTS)
    if not told:
        assert in_child(checkpoint.load, path, memory=MEMORY) == {"model": None}
        return
    message = refusal(path)
    assert re.search(told, message), message


def deflated(path: Path) -> None:
    """A thousandfold: ten of these make a terabyte of a gigabyte."""
    repacked(path, lambda info, data: (info.filename, data), compression=zipfile.ZIP_DEFLATED)


def add(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    def change(path: Path) -> None:
        repacked(
            path,
            lambda info, data: [(info, data), (name, content)] if "pkl" in info.filename
            else (info, data),
        )  # fmt: skip

    return change


def rename(old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(path.read_bytes().replace(old, new))

    return change


def in_directory(position: int, value: bytes, record: bytes = b"data/0") -> Callable[[Path], None]:
    """Change a field of a record's entry in the archive's directory."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        start = content.rindex(record)  # the last mention
        entry = content.rindex(b"PK\1\2", 0, start)
        content[entry + position : entry + position + len(value)] = value
        path.write_bytes(content)

    return change


def overlapping(path: Path) -> None:
    """A record inside another's data: a zip bomb that is not compressed."""
    inner = f"{path.stem}/data/1".encode()
    crc = zlib.crc32(bytes(64))
    header = struct.pack("<4s5H3I2H", b"PK\3\4", *[0] * 5, crc, 64, 64, len(inner), 0) + inner
    outer = header + bytes(64)
    write_archive(path, state(ops("x")), {"0": outer, "1": bytes(64)})
    content = path.read_bytes()
    in_directory(42, content.index(outer).to_bytes(4, "little"), inner)(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None, "all else is right"


def two_directories(path: Path) -> None:
    """What one reader takes for the archive is a comment to another."""
    other = path.read_bytes()
    write_archive(path, state(ops("other")))
    content = bytearray(path.read_bytes())
    content[-2:] = len(other).to_bytes(2, "little")
    path.write_bytes(content + other)


ARCHIVES: dict[str, tuple[Callable[[Path], None], str]] = {
    "compressed": (deflated, "record 'data.pkl' is compressed"),
    "a larger record": (in_directory(20, b"\xff\xff\xff\x7f" * 2), "damaged"),
    "overlapping records": (overlapping, "record 'data/1' overlaps another"),
    "a record twice": (add("archive/data.pkl"), "it has a record 'archive/data.pkl'"),
    "a record twice, by case": (add("archive/DATA/0"), "it has a record 'archive/DATA/0'"),
    "path traversal": (add("../../etc/cron.d/x"), "it has a record '../../etc/cron.d/x'"),
    "an absolute path": (add("/etc/passwd"), "it has a record '/etc/passwd'"),
    "a program": (add("archive/code/x.py"), "it has a record 'archive/code/x.py'"),
    "TorchScript": (add("archive/constants.pkl"), "it has a record 'archive/constants.pkl'"),
    "encrypted": (in_directory(8, b"\1\0"), "marked as a folder"),
    "a folder": (in_directory(38, b"\x10"), "marked as a folder"),
    "another packing": (in_directory(10, b"\x63\0"), "compressed"),
    "something before": (
        lambda path: path.write_bytes(b"#!/bin/sh\n" + path.read_bytes()), "its directory is"
    ),
    "a comment": (
        lambda path: path.write_bytes(path.read_bytes()[:-2] + b"\1\0x"), "its directory is"
    ),
    "two directories": (two_directories, "its directory is elsewhere"),
    "no pickle": (rename(b"data.pkl", b"data.txt"), "it has a record"),
    "no version": (rename(b"/version", b"/data/99"), "no record 'version'"),
}  # fmt: skip


@pytest.mark.parametrize("change", ARCHIVES)
def test_other_archives_are_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "checkpoint.th"
    write_archive(path, state(tensor()), WEIGHTS)
    ARCHIVES[change][0](path)
    message = refusal(path)
    assert ARCHIVES[change][1] in message, message


def test_a_zip_bomb(tmp_path: Path) -> None:
    """260 kB that torch makes 260 MB of; more of them are not needed."""
    path = tmp_path / "checkpoint.th"
    size = 1 << 28
    write_archive(path, state(tensor((size // 4,), numel=size // 4)), {"0": bytes(size)})
    deflated(path)
    assert path.stat().st_size < 3e5
    assert "is compressed" in refusal(path, memory=100 << 20)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("data") / "audio", 3)


def test_a_run_does_not_go_on_from_a_hostile_file(tmp_path: Path, audio: Path) -> None:
    """It takes the checkpoint before; where there is none, it says so."""
    marker = tmp_path / "ran"
    solver = make_solver(tmp_path / "run", audio, "optim.epochs=1", "checkpoint.keep_last=0")
    solver.run()
    path = solver.checkpoint_path
    good = path.read_bytes()
    checkpoint.previous_path(path).write_bytes(good)
    write_archive(path, state(ops(Call(os.system, f"touch {marker}"))))
    again = make_solver(tmp_path / "run", audio, "optim.epochs=2")
    assert again.restored and again.epoch == 2
    assert (path.parent / "checkpoint.th.damaged").is_file() and not path.exists()

    for other in path.parent.glob("*.th"):
        write_archive(other, state(ops(Call(os.system, f"touch {marker}"))))
    with pytest.raises(ValueError, match="No checkpoint of this run can be read.*holds posix.syst"):
        make_solver(tmp_path / "run", audio)
    assert not marker.exists()


def test_weights_of_a_stranger(tmp_path: Path, audio: Path) -> None:
    """`continue_from=`: hostile, and with weights that do not fit."""
    path, marker = tmp_path / "stranger.th", tmp_path / "ran"
    write_archive(path, state(ops(Call(os.system, f"touch {marker}"))))
    with pytest.raises(ValueError, match=f"checkpoint {path}: it holds posix.system, and only"):
        make_solver(tmp_path / "run", audio, f"continue_from={path}").run()
    assert not marker.exists()
    cfg = OmegaConf.create({"continue_from": str(path)})
    for weights in (["x"], {1: torch.zeros(1)}, "text", None, {"a": 1}, {"a": torch.zeros(3)}):
        torch.save({"model": weights}, path)
        with pytest.raises(ValueError, match=f"continue_from={path}: ") as error:
            load_into(cfg, tmp_path, torch.nn.Linear(2, 2), None)
        assert len(str(error.value)) < 600 and "\n" not in str(error.value)
    for wrong in ({"ema": {"averages": 3}}, {"ema": []}, {"adversarial": {1: 2}}):
        torch.save({"model": torch.nn.Linear(2, 2).state_dict(), **wrong}, path)
        with pytest.raises(ValueError, match=f"continue_from={path}: .* not a table of weights"):
            load_into(cfg, tmp_path, torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))


def manifest_refusal(path: Path) -> str:
    begin = time.monotonic()
    kind, message = in_child(load_manifest, path, memory=200 << 20)
    assert time.monotonic() - begin < 20
    assert kind in ("ValueError", "FileNotFoundError"), (kind, message)
    assert str(path) in message and len(message) < 600 and "\n" not in message
    return message


LINE = {"path": "a.wav", "duration": 1, "sample_rate": 16000}


def zeros(path: Path, unit: bytes) -> None:
    with gzip.open(path, "wb") as file:
        for _ in range(200):
            file.write(unit * ((1 << 20) // len(unit)))


def test_manifests_do_not_grow(tmp_path: Path) -> None:
    packed, plain = tmp_path / "m.jsonl.gz", tmp_path / "m.jsonl"
    zeros(packed, b"0")
    assert packed.stat().st_size < 3e5
    assert "the line is longer than 1048576 bytes" in manifest_refusal(packed)
    zeros(packed, b"\n")
    assert "m.jsonl.gz:1001: nearly all lines are empty" in manifest_refusal(packed)
    zeros(packed, (json.dumps({**LINE, "note": "0" * 10_000}) + "\n").encode())
    assert "unpacks to more than 100 times its size" in manifest_refusal(packed)
    with open(plain, "wb") as file:
        file.truncate(1 << 32)  # one line of 4 GB, without any disk
    assert "m.jsonl:1: the line is longer" in manifest_refusal(plain)
    plain.unlink()
    os.mkfifo(plain)
    assert "no such file" in manifest_refusal(plain)
    plain.unlink()
    plain.symlink_to("/dev/zero")
    assert "no such file" in manifest_refusal(plain)


@pytest.mark.parametrize(
    "field, value",
    [
        ("path", "a\0b"),
        ("path", ["a"]),
        ("path", {"__reduce__": "os.system"}),
        ("path", ""),
        ("duration", 10**400),
        ("duration", float("inf")),
        ("duration", "9" * 1_000_000),
        ("sample_rate", 10**4000),
        ("sample_rate", 1.5),
        ("amplitude", []),
    ],
)
def test_odd_fields_of_manifests(tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({**LINE, field: value}) + "\n")
    assert "m.jsonl:1: field" in manifest_refusal(path)


def test_deep_and_long_json(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    for line in ("[" * 1_000_000, '{"a":' * 100_000, "9" * 10_000, "\x00", "\ud800", "NaN"):
        path.write_bytes(line.encode(errors="surrogatepass") + b"\n")
        assert "m.jsonl:1: " in manifest_refusal(path)


@pytest.mark.parametrize("place", ["/dev/zero", "pipe", "/proc/self/mem", "/proc/kmsg", "/dev/tty"])
def test_a_manifest_cannot_make_a_run_hang(tmp_path: Path, place: str) -> None:
    """Files that are none are left out, as others that cannot be read."""
    from adversarial_trainer.data import FileDataset

    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({**LINE, "path": place}) + "\n")

    def read() -> int:
        return len(list(FileDataset(load_manifest(path), 16000, 1).readable()))

    assert in_child(read, memory=MEMORY, seconds=10) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda line: b"[" * 100_000,
        lambda line: b"0" * (2 << 20),
        lambda line: b"\x80\x02}.",
        lambda line: line.replace(b'"size": ', b'"size": 1e999, "x": '),
        lambda line: line.replace(b'"skipped": null', b'"skipped": 7'),
        lambda line: line.replace(b'"skipped": null', b'"skipped": {}'),
        lambda line: line.replace(b'"path": "', b'"path": ["", "'),
        lambda line: b"[]",
        lambda line: b"null",
    ],
)
def test_a_broken_index_is_not_used(
    tmp_path: Path, audio: Path, change: Callable[[bytes], bytes]
) -> None:
    """Nor is one that others have made in a cache that is shared."""
    good = scan(audio, tmp_path, progress=False).files
    index = cache_path(audio, tmp_path, ".index.jsonl")
    first, second, *rest = index.read_bytes().splitlines(keepends=True)
    for lines in ([first, change(second) + b"\n", *rest], [change(second) + b"\n"]):
        index.write_bytes(b"".join(lines))
        result = in_child(scan, audio, tmp_path, None, False, memory=MEMORY)
        assert result.files == good


@pytest.mark.parametrize(
    "path, name",
    [
        ("/data/a.wav", "07_a"),
        ("/data/Größe 名.flac", "07_Größe 名"),
        ("../../x.wav", "07_x"),
        ("..", "07_.."),
        ("/data/..\\..\\x.wav", "07_.._.._x"),
        ("/data/a\nb\x1b[31m.wav", "07_a_b_[31m"),
        ("/data/" + os.fsdecode(b"\xff\xfe") + ".wav", "07___"),
        ("/data/" + "x" * 250 + ".wav", "07_" + "x" * 150),
        ("/data/" + "名" * 80 + ".wav", "07_" + "名" * 50),
    ],
)
def test_names_of_samples(path: str, name: str) -> None:
    assert sample_name(7, path) == name


def test_samples_stay_in_their_folder(tmp_path: Path) -> None:
    """Files with names as long and as odd as a file system takes are reconstructed."""
    audio = write_audio(tmp_path / "audio", 1)
    for name in (
        b"x" * 251,
        b"a\nb",
        b"\xff",
        "名".encode() * 80,
        b"..\\..\\etc",
        b"${oc.env:HOME}",
    ):
        os.link(audio / "0.wav", os.path.join(os.fsencode(audio), name + b".wav"))
    metas = [{**LINE, "path": os.fsdecode(path.name)} for path in audio.iterdir()]
    lines = [json.dumps(meta) + "\n" for meta in metas]
    (audio / "m.jsonl").write_text("".join(lines))
    solver = make_solver(
        tmp_path / "run",
        audio,
        *("dset.path=null", f"dset.manifest={audio}/m.jsonl", "optim.epochs=1", "generate.every=1"),
        *("generate.num_files=null", "dset.shares.generate=0.9", "dset.shares.train=0.1"),
    )
    before = {path for path in tmp_path.rglob("*") if solver.folder not in path.parents}
    solver.run()
    after = {path for path in tmp_path.rglob("*") if solver.folder not in path.parents}
    assert after == before


OVERRIDES = [
    "hydra.callbacks={x: {_target_: os.system}}",
    "+hydra.callbacks.x._target_=os.system",
    "++hydra.callbacks.x._target_=os.system",
    "hydra/launcher=basic",
    "hydra.launcher._target_=os.system",
    "+hydra/callbacks=evil",
    "hydra/job_logging=default",
    "hydra.job_logging={handlers: {x: {class: os.system}}}",
    "hydra.searchpath=[pkg://evil]",
    "hydra.run.dir=/etc",
    "hydra.job.env_set={LD_PRELOAD: /tmp/x.so}",
    "~hydra.mode",
    " hydra.run.dir=/etc",
    "+optim._target_=os.system",
    "+_target_=os.system",
    "+model.seanet._target_=os.system",
    "optim.name=os.system",
    "solver=../../../etc/passwd",
    "solver=os.system",
    "dset=/etc/passwd",
    "adversarial.discriminators=[os.system]",
    "logging.wandb_name=${os.system:ls}",
    "--config-dir=/tmp",
]


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_configuration_names_no_code(
    override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from adversarial_trainer.train import main

    with pytest.raises(SystemExit):
        main.init_xp(main.get_xp(["solver=tiny", f"dora.dir={tmp_path}", override]))
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_hydra_would_do(tmp_path: Path) -> None:
    """Why `hydra.*` is refused: Hydra itself makes what a configuration names."""
    script = (
        "import hydra, sys\n"
        "@hydra.main(config_path=None, version_base='1.3')\n"
        "def main(cfg): pass\n"
        "main()\n"
    )
    override = "+hydra.callbacks.x={_target_: logging.FileHandler, filename: made}"
    line = [sys.executable, "-c", script, override, "hydra.run.dir=."]
    subprocess.run(line, cwd=tmp_path, timeout=60, capture_output=True, check=False)
    assert (tmp_path / "made").exists()


def test_a_run_folder_of_a_stranger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Dora unpickles `job.pkl` there, whatever is asked about the run."""
    from dora.shep import Sheep
    from dora.utils import try_load
    from submitit import SlurmJob

    from adversarial_trainer.train import main

    marker = tmp_path / "ran"
    xp = main.get_xp(["solver=tiny", f"dora.dir={tmp_path}"])
    xp.folder.mkdir(parents=True)
    file = xp.folder / xp.dora.shep.job_file
    file.write_bytes(pickle.dumps(Call(os.system, f"touch {marker}")))
    assert Sheep(xp).job is None and not marker.exists()
    assert "posix.system is no part of a job" in caplog.text
    try_load(file)  # Dora's own
    assert marker.exists()

    job = SlurmJob(tmp_path / "%j", "12_3", [0, 1])
    file.write_bytes(pickle.dumps((job, [job], [])))
    loaded = Sheep(xp).job
    assert (
        loaded is not None and loaded.job_id == "12_3" and loaded.paths.folder == job.paths.folder
    )
