"""Files made by somebody else are read without running them, without hanging, in bounded memory."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from children import in_child
from hostile import Call
from micro import make_solver, write_audio
from omegaconf import OmegaConf

from adversarial_trainer import checkpoint
from adversarial_trainer.data import load_manifest, scan
from adversarial_trainer.data.scanning import cache_path
from solvers.finetuning import load_weights

MEMORY = 300 << 20  # bytes that reading a hostile file may take


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
    torch.save({"model": Call(os.system, f"touch {marker}")}, path)
    again = make_solver(tmp_path / "run", audio, "optim.epochs=2")
    assert again.restored and again.epoch == 2
    assert (path.parent / "checkpoint.th.damaged").is_file() and not path.exists()

    for other in path.parent.glob("*.th"):
        torch.save({"model": Call(os.system, f"touch {marker}")}, other)
    with pytest.raises(ValueError, match="No checkpoint of this run can be read.*holds posix.syst"):
        make_solver(tmp_path / "run", audio)
    assert not marker.exists()


def test_weights_of_a_stranger(tmp_path: Path, audio: Path) -> None:
    """`continue_from=`: hostile, and with weights that do not fit."""
    path, marker = tmp_path / "stranger.th", tmp_path / "ran"
    torch.save({"model": Call(os.system, f"touch {marker}")}, path)
    with pytest.raises(ValueError, match=f"checkpoint {path}: it holds posix.system, and only"):
        make_solver(tmp_path / "run", audio, f"continue_from={path}").run()
    assert not marker.exists()
    cfg = OmegaConf.create({"continue_from": str(path)})
    for weights in (["x"], {1: torch.zeros(1)}, "text", None, {"a": 1}, {"a": torch.zeros(3)}):
        torch.save({"model": weights}, path)
        with pytest.raises(ValueError, match=f"continue_from={path}: ") as error:
            load_weights(cfg, tmp_path, torch.nn.Linear(2, 2), None)
        assert len(str(error.value)) < 600 and "\n" not in str(error.value)
    for wrong in ({"ema": {"averages": 3}}, {"ema": []}, {"adversarial": {1: 2}}):
        torch.save({"model": torch.nn.Linear(2, 2).state_dict(), **wrong}, path)
        with pytest.raises(ValueError, match=f"continue_from={path}: .* not a table of weights"):
            load_weights(cfg, tmp_path, torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))


def manifest_refusal(path: Path) -> str:
    begin = time.monotonic()
    kind, message = in_child(load_manifest, path, memory=200 << 20)
    assert time.monotonic() - begin < 20
    assert kind in ("ValueError", "FileNotFoundError"), (kind, message)
    assert str(path) in message and len(message) < 600 and "\n" not in message
    return message


LINE = {"path": "a.wav", "duration": 1, "sample_rate": 16000}


def test_lines_of_manifests_have_a_limit(tmp_path: Path) -> None:
    packed, plain = tmp_path / "m.jsonl.gz", tmp_path / "m.jsonl"
    with gzip.open(packed, "wb") as file:
        for _ in range(200):
            file.write(b"0" * (1 << 20))
    assert "the line is longer than 1048576 bytes" in manifest_refusal(packed)
    with open(plain, "wb") as file:
        file.truncate(1 << 32)  # one line of 4 GB, without any disk
    assert "m.jsonl:1: the line is longer" in manifest_refusal(plain)
    plain.unlink()
    os.mkfifo(plain)
    assert "no such file" in manifest_refusal(plain)


def test_odd_lines_of_manifests(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    fields: list[dict[str, Any]] = [{"path": ["a"]}, {"duration": 10**400}]
    fields += [{"duration": "9" * 1_000_000}, {"sample_rate": 1.5}, {"amplitude": []}]
    lines = [json.dumps({**LINE, **field}) for field in fields]
    lines += ["[" * 1_000_000, '{"a":' * 100_000, "9" * 10_000, "\x00", "\ud800", "NaN"]
    for line in lines:
        path.write_bytes(line.encode(errors="surrogatepass") + b"\n")
        assert "m.jsonl:1: " in manifest_refusal(path)


@pytest.mark.parametrize("place", ["/dev/zero", "pipe", "/proc/self/mem"])
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
        lambda line: line.replace(b'"size": ', b'"size": 1e999, "x": '),
        lambda line: line.replace(b'"path": "', b'"path": ["", "'),
    ],
)
def test_a_broken_cache_is_not_used(
    tmp_path: Path, audio: Path, change: Callable[[bytes], bytes]
) -> None:
    """Nor is one that others have made in a cache that is shared."""
    good = scan(audio, tmp_path, progress=False).files
    cache = cache_path(audio, tmp_path)
    first, second, *rest = cache.read_bytes().splitlines(keepends=True)
    cache.write_bytes(b"".join([first, change(second) + b"\n", *rest]))
    result = in_child(scan, audio, tmp_path, None, False, memory=MEMORY)
    assert result.files == good


def test_samples_stay_in_their_folder(tmp_path: Path) -> None:
    """Files with names as long and as odd as a file system takes are reconstructed."""
    audio = write_audio(tmp_path / "audio", 1)
    names = [b"x" * 251, b"a\nb\x1b[31m", b"\xff", "名".encode() * 80, b"..\\..\\etc", b"${HOME}"]
    for name in names:
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
    "+hydra.callbacks.x._target_=os.system",
    "hydra/launcher=basic",
    "hydra.searchpath=[pkg://evil]",
    " hydra.run.dir=/etc",
    "+model.seanet._target_=os.system",
    "optim.name=os.system",
    "solver=../../../etc/passwd",
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
