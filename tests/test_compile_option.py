"""`--compile` of encode, decode and evaluate as it is typed."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from recipes import audio, codec, config

from adversarial_trainer import checkpoint
from adversarial_trainer.cli import main
from adversarial_trainer.models.compiled import compile_inference

SMALL = (
    *("model.seanet.n_filters=2", "model.seanet.dimension=8", "model.seanet.lstm=0"),
    "model.seanet.ratios=[8,5]",
)
BOOKS = ("quantizer.n_q=2", "quantizer.dropout_choices=null")


def save(path: Path, *recipe: str) -> Path:
    """A checkpoint of a recipe's codec."""
    text = OmegaConf.to_yaml(config(*recipe), resolve=True)
    checkpoint.save({"model": codec(*recipe).state_dict(), "config_text": text}, path)
    return path


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that needs whole segments."""
    path = tmp_path_factory.mktemp("segmented") / "checkpoint.th"
    return save(path, "encodec_48khz", *SMALL, *BOOKS)


def write(path: Path, seconds: float) -> Path:
    soundfile.write(path, audio(2, round(48000 * seconds), 48000).T.numpy(), 48000)
    return path


def run(*argv: object) -> int:
    return main([str(arg) for arg in argv])


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second segment on, and without the code generator."""
    torch._dynamo.reset()  # a graph of an equal model would be taken
    quick = functools.partial(compile_inference, backend="eager", repeats=2)
    monkeypatch.setattr("adversarial_trainer.models.pretrained.codec.compile_inference", quick)


@pytest.mark.usefixtures("eager")
def test_encode_and_decode(
    segmented: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wav, plain, ours = write(tmp_path / "x.wav", 3.5), tmp_path / "plain.atc", tmp_path / "ours.atc"
    assert run("encode", wav, plain, "--model", segmented) == 0
    assert "torch.compile" not in caplog.text
    assert run("encode", wav, ours, "--model", segmented, "--compile") == 0
    assert plain.read_bytes() == ours.read_bytes()
    assert caplog.text.count("torch.compile: 1 graphs so far") == 1
    back = {}
    for name in ("plain", "ours"):
        option = ["--compile"] if name == "ours" else []
        out = tmp_path / f"{name}.wav"
        argv = ["decode", ours, out, "--model", segmented, "--subtype", "FLOAT", *option]
        assert run(*argv) == 0
        back[name] = soundfile.read(out)[0]
    assert abs(back["plain"] - back["ours"]).max() < 1e-5 * abs(back["plain"]).max()
    assert caplog.text.count("torch.compile: 1 graphs so far") == 2


@pytest.mark.usefixtures("eager")
def test_evaluate(segmented: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(2):
        write(data / f"{number}.wav", 1 + number)  # of which the first second is taken
    argv = ["evaluate", segmented, "--data", data, "--max-duration", 1, "--metrics", "sisnr"]
    assert run(*argv, "--out", tmp_path / "plain") == 0
    assert "torch.compile" not in caplog.text
    assert run(*argv, "--out", tmp_path / "ours", "--compile") == 0
    assert "torch.compile: 2 graphs so far" in caplog.text
    found = [
        json.loads((tmp_path / name / "evaluation.json").read_text())["rows"][0]["metrics"]["sisnr"]
        for name in ("plain", "ours")
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_what_is_streamed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, wav = save(tmp_path / "checkpoint.th", "tiny", *SMALL), write(tmp_path / "x.wav", 0.1)
    for argv in (["encode", wav, tmp_path / "x.atc"], ["decode", wav, tmp_path / "y.wav"]):
        assert run(*argv, "--model", model, "--compile") == 2
        error = capsys.readouterr().err
        assert "--compile: " in error and "piece by piece" in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.th", "x.wav"]


def test_without_a_compiler(
    segmented: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    wav = write(tmp_path / "x.wav", 0.1)
    for argv in (["encode", wav, tmp_path / "x.atc", "--model"], ["evaluate", "--data", tmp_path]):
        assert run(*argv, segmented, "--compile") == 2
        error = capsys.readouterr().err
        assert "no /nowhere/c++; install g++" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


@pytest.mark.slow
def test_the_real_command(segmented: Path, tmp_path: Path) -> None:
    """With inductor, which begins at the eighth segment; on stderr is how long it took."""
    wav = write(tmp_path / "x.wav", 9)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, *option in (("plain",), ("ours", "--compile")):
        out = tmp_path / f"{name}.atc"
        line = [sys.executable, "-m", "adversarial_trainer.cli", "encode", str(wav), str(out)]
        line += ["--model", str(segmented), *option]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, env=env)
        assert done.returncode == 0, done.stderr
        assert ("torch.compile: 1 graphs so far, in " in done.stderr) == bool(option)
    assert (tmp_path / "plain.atc").read_bytes() == (tmp_path / "ours.atc").read_bytes()
