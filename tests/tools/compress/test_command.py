"""encode, decode and info as they are typed."""

import io
import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bitstreams import blocks_at
from recipes import loaded

from adversarial_trainer import checkpoint
from adversarial_trainer.cli import main
from adversarial_trainer.tools.export import export

RATE = 16_000


def run(*argv: object) -> int:
    return main([str(arg) for arg in argv])


def test_a_file(
    model: str, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rate, the length and what it sounds like come back."""
    wav, atc, back = sounds / "1.wav", tmp_path / "new/x.atc", tmp_path / "x.flac"
    assert run("encode", wav, atc, "--model", model) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{atc}: 1.00 s, {atc.stat().st_size} bytes, 0.4 kb/s nominal, 0.4 in")
    hifi = tmp_path / "hifi.wav"
    soundfile.write(hifi, np.zeros((999, 2)), 44_100)
    assert run("encode", hifi, tmp_path / "hifi.atc", "--model", model) == 0
    lost = "this model loses frequencies above 8 kHz and 2 channels, mixed to 1"
    assert capsys.readouterr().err == f"{hifi}: {lost}\n"
    assert run("decode", atc, back, "--model", model, "--subtype", "PCM_24") == 0
    about = soundfile.info(back)
    assert (about.samplerate, about.channels, about.frames) == (RATE, 1, RATE)
    assert about.subtype == "PCM_24"

    assert run("info", atc) == 0
    text = capsys.readouterr().out
    assert "2 -> 1 in the model" in text and "2 codebooks of 16" in text and "damage" not in text
    assert run("info", atc, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["length"], facts["blocks"], facts["frames"]) == (RATE, 1, 50)
    assert facts["kbps"]["nominal"] == facts["kbps"]["payload"] == 0.4
    assert facts["header"]["channels"] == 2 and facts["gaps"] == facts["damage"] == []

    for argv in (["encode", wav, atc], ["decode", atc, back]):
        assert run(*argv, "--model", model) == 2
        assert "exists; --force overwrites it" in capsys.readouterr().err
    before = atc.read_bytes()
    assert run("encode", wav, atc, "--model", model, "--bandwidth", 0.2, "--force") == 0
    assert len(atc.read_bytes()) < len(before)


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_folders(
    model: str, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that can be done is, through links as well; the same call goes on; the rest is named."""
    source, atc, back = tmp_path / "in", tmp_path / "atc", tmp_path / "back"
    shutil.copytree(sounds, source / "deep/er")
    (source / "link").symlink_to(sounds)
    (source / "deep/loop").symlink_to(source)
    soundfile.write(source / "top.flac", np.zeros((99, 1)), 8000)
    (source / "notes.txt").write_text("not audio")
    assert run("encode", source, atc, "--model", model) == 0
    assert capsys.readouterr().out == "left out: 1 .txt\nencode: 7 of 7 files done, 0 failed\n"
    names = [f"{folder}/{n}" for folder in ("deep/er", "link") for n in range(3)] + ["top"]
    assert below(atc) == [f"{name}.atc" for name in names]

    # A bad file is named and the rest is done.
    (atc / "deep/bad.atc").write_bytes(b"no")
    (atc / "deep/er/0.atc").write_bytes((atc / "deep/er/0.atc").read_bytes()[:-30])
    assert run("decode", atc, back, "--model", model) == 1
    captured = capsys.readouterr()
    assert captured.out == "decode: 6 of 8 files done, 2 failed\n"
    assert "deep/bad.atc: not an .atc file" in captured.err and "truncated" in captured.err
    assert below(back) == [f"{name}.wav" for name in names if name != "deep/er/0"]
    assert soundfile.info(back / "top.wav").frames == 99

    # Formats that cannot be read, two of one stem; what was done is not done again.
    (atc / "top.atc").unlink()
    (source / "movie.m4a").write_bytes(b"no")
    shutil.copy(sounds / "0.wav", source / "top.wav")
    before = (atc / "deep/er/1.atc").stat().st_mtime_ns
    assert run("encode", source, atc, "--model", model) == 1
    captured = capsys.readouterr()
    assert "6 files are there already; --force" in captured.out
    assert "encode: 2 of 3 files done, 1 failed" in captured.out and "movie.m4a" in captured.err
    assert {"top.flac.atc", "top.wav.atc"} < set(below(atc))
    assert (atc / "deep/er/1.atc").stat().st_mtime_ns == before


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can be longer than 8 KB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_the_rest_is_done(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], full_disk: None
) -> None:
    atc = tmp_path / "atc"
    for name, length in (("a", 9000), ("b", 900)):
        stdin = io.BytesIO()
        soundfile.write(stdin, np.zeros(length), RATE, format="WAV")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.getvalue())))
            assert run("encode", "-", atc / f"{name}.atc", "--model", model) == 0
    capsys.readouterr()
    assert run("decode", atc, tmp_path / "back", "--model", model) == 1
    captured = capsys.readouterr()
    assert captured.out == "decode: 1 of 2 files done, 1 failed\n"
    assert "a.wav: writing fails" in captured.err and "is the disk full?" in captured.err
    assert below(tmp_path / "back") == ["b.wav"]
    for format in ("hf", "safetensors"):
        assert run("export", model, tmp_path / "out", "--format", format) == 2
        error = capsys.readouterr().err
        assert f"{tmp_path / 'out'}: " in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atc", "back"]


def test_names_that_are_not_utf8(model: str, sounds: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    assert run("encode", sounds, folder, "--model", model) == 0
    for target in (folder / "back", folder / "new" / os.fsdecode(b"\xfe.ogg")):
        source = folder if target.suffix == "" else folder / "0.atc"
        assert run("decode", source, target, "--model", model) == 0
    assert len(below(folder)) == 7
    assert run("export", model, folder, "--format", "hf", "--force") == 0


def test_salvage(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav, atc, back = tmp_path / "x.wav", tmp_path / "x.atc", tmp_path / "y.wav"
    soundfile.write(wav, np.random.default_rng(0).normal(0, 0.1, 5 * RATE), RATE)
    assert run("encode", wav, atc, "--model", model) == 0
    data = bytearray(atc.read_bytes())
    starts = blocks_at(bytes(data))
    data[starts[1] + 20] ^= 1
    atc.write_bytes(data[: starts[4] + 5])
    capsys.readouterr()
    assert run("decode", atc, back, "--model", model) == 2
    assert f"{atc}: wrong CRC, at byte {starts[1]}" in capsys.readouterr().err
    assert not back.exists()
    assert run("decode", atc, back, "--model", model, "--salvage") == 1
    error = capsys.readouterr().err
    assert "lost: 1.000 s to 2.000 s" in error and "the end is missing" in error
    got, _ = soundfile.read(back)
    assert len(got) == 4 * RATE and not got[RATE : 2 * RATE].any() and got[2 * RATE :].any()
    assert run("info", atc, "--json") == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["gaps"] == [[1.0, 2.0]] and facts["seconds"] == 4.0 and facts["length"] is None


def test_wrong_calls(
    model: str,
    sounds: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wav, atc = sounds / "0.wav", tmp_path / "x.atc"
    assert run("encode", wav, atc, "--model", model) == 0
    other = tmp_path / "other.th"
    state = checkpoint.load(Path(model))
    state["model"]["decoder.model.0.conv.conv.bias"] += 1
    checkpoint.save(state, other)
    unquantized = tmp_path / "none"
    export(loaded("tiny", "quantizer=vae"), unquantized, "safetensors")
    wider = tmp_path / "wider"
    export(loaded("tiny", "channels=2"), wider, "safetensors")
    capsys.readouterr()
    for argv, match in [
        (["encode", wav, tmp_path / "y.atc", "--model", model, "--bandwidth", "6"], "0.2, 0.4"),
        (["encode", tmp_path / "no.wav", atc, "--model", model], "no such file or folder"),
        (["encode", wav, sounds, "--model", model], "is a folder, and"),
        (["encode", sounds, "-", "--model", model], "name a folder to write to"),
        (["encode", tmp_path, tmp_path / "out", "--model", model], "no file in it ends in"),
        (["encode", wav, wav, "--force", "--model", model], "overwritten by its own output"),
        (["encode", atc, tmp_path / "y.atc", "--model", model], "Format not recognised"),
        (["decode", wav, tmp_path / "y.wav", "--model", model], "not an .atc file"),
        (["decode", atc, tmp_path / "y.xyz", "--model", model], "cannot write '.xyz'"),
        (
            ["decode", atc, tmp_path / "y.flac", "--model", model, "--subtype", "FLOAT"],
            "subtype FLOAT: FLAC files have PCM_16, PCM_24, PCM_S8",
        ),
        (["decode", atc, "-", "--model", model, "--subtype", "ULAW"], "Choices: PCM_16"),
        (["decode", atc, tmp_path / "y.wav", "--model", other], "with other weights"),
        (["decode", atc, tmp_path / "y.wav", "--model", wider], "--model is 16000 Hz, channels: 2"),
        (["info", wav], "not an .atc file"),
        (["encode", wav, tmp_path / "y.atc", "--model", unquantized], "does not quantize"),
        (["info", tmp_path / "no.atc"], "No such file"),
    ]:
        assert run(*argv) == 2, argv
        error = capsys.readouterr().err
        assert match in error and error.count("\n") == 1, error
    assert run("encode", wav, atc, "--model", model, "--entropy", "--force") == 0
    monkeypatch.setitem(sys.modules, "constriction", None)
    assert run("decode", atc, tmp_path / "y.wav", "--model", model) == 2
    assert "pip install 'adversarial_trainer[entropy]'" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["none", "other.th", "wider", "x.atc"]


def piped(monkeypatch: pytest.MonkeyPatch, stdin: bytes, *argv: object) -> tuple[int, bytes]:
    """Exit status and what came out of stdout, with `stdin` in a pipe."""
    out = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(Unseekable(out))))
        status = run(*argv)
        sys.stdout.flush()
    return status, out.getvalue()


class Unseekable(io.RawIOBase):
    """A pipe's end, into a BytesIO."""

    def __init__(self, out: io.BytesIO) -> None:
        self.out = out

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        return self.out.write(data)


def test_pipes(
    model: str,
    sounds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wav and flac in, wav out; the same bytes as through files."""
    wav = (sounds / "0.wav").read_bytes()
    flac = io.BytesIO()
    soundfile.write(flac, soundfile.read(sounds / "0.wav")[0], RATE, format="FLAC")
    atc, back = tmp_path / "x.atc", tmp_path / "x.wav"
    assert run("encode", sounds / "0.wav", atc, "--model", model) == 0
    assert run("decode", atc, back, "--model", model) == 0
    for stdin in (wav, flac.getvalue()):
        status, encoded = piped(monkeypatch, stdin, "encode", "-", "-", "--model", model)
        assert status == 0 and encoded == atc.read_bytes()
        assert "-: 1.00 s" in capsys.readouterr().err
    status, decoded = piped(monkeypatch, encoded, "decode", "-", "-", "--model", model)
    assert status == 0 and decoded[44:] == back.read_bytes()[44:]
    again = tmp_path / "y.atc"
    assert piped(monkeypatch, decoded, "encode", "-", again, "--model", model)[0] == 0
    status, told = piped(monkeypatch, again.read_bytes(), "info", "-", "--json")
    assert status == 0 and json.loads(told)["length"] == RATE
    assert piped(monkeypatch, b"", "encode", "-", "-", "--model", model) == (2, b"")
    assert "stdin is empty" in capsys.readouterr().err
