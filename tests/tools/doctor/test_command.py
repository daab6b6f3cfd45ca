"""The command line, on folders good, bad and empty."""

import json
import os
from pathlib import Path
from typing import Any

import nasty
import numpy as np
import pytest
import soundfile

from adversarial_trainer.cli import main
from adversarial_trainer.data import AudioMeta, resolve_stage_metas, save_manifest, scan
from adversarial_trainer.data.demo import build


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nasty.Expected]:
    root = tmp_path_factory.mktemp("doctor") / "bad"
    return root, nasty.make(root)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("doctor") / "good", files=8, duration=2.0, progress=False)


def as_json(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, dict[str, Any]]:
    status = main(["doctor", "--json", *map(str, argv)])
    return status, json.loads(capsys.readouterr().out)


def files_of(report: dict[str, Any]) -> dict[str, list[set[str]]]:
    """Names of the files in the cases of each problem."""
    return {
        problem["kind"]: [{Path(p).name for p in item["files"]} for item in problem["items"]]
        for problem in report["problems"]
    }


def test_bad_folder(bad: tuple[Path, nasty.Expected], capsys: pytest.CaptureFixture[str]) -> None:
    root, expected = bad
    before = sorted((str(p), p.lstat().st_mtime_ns) for p in root.parent.rglob("*"))
    status, report = as_json(capsys, root, "--workers", "2")
    assert status == 1  # and nothing is written
    assert before == sorted((str(p), p.lstat().st_mtime_ns) for p in root.parent.rglob("*"))
    kinds = {os.path.relpath(file["path"], root): nasty.USABLE for file in report["files"]}
    kinds |= {os.path.relpath(file["path"], root): file["kind"] for file in report["skipped"]}
    assert kinds == expected
    # Each that is left out is in a problem of its kind, but for links, which do no harm.
    named = {(os.path.relpath(path, root), problem["kind"]) for problem in report["problems"]
             for item in problem["items"] for path in item["files"]}  # fmt: skip
    left_out = {name for name, kind in expected.items() if kind not in (nasty.USABLE, nasty.LINK)}
    assert {(name, expected[name]) for name in left_out} <= named
    assert {("dc_offset.wav", "offset"), ("zero_padded.wav", "silence")} <= named
    assert files_of(report)["clipped"][0] == {"clipped.wav"}
    assert all(problem["advice"] for problem in report["problems"])

    assert main(["doctor", str(root)]) == 1
    text = capsys.readouterr().out
    assert f"{len(left_out)} left out; 2 more names" in text
    unreadable = sum(kind == nasty.UNREADABLE for kind in expected.values())
    assert f"left out: unreadable ({unreadable})" in text and "more; --json has all" in text
    assert text.index("unreadable (") < text.index("clipped") < text.index("Summary")
    # Names cannot write to the terminal.
    assert all(line.isprintable() for line in text.split("\n"))


def test_good_folder(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(good)]) == 0 and "No issues found" in capsys.readouterr().out
    status, report = as_json(capsys, good)
    assert status == 0 and report["problems"] == [] and report["version"] == 4
    assert report["summary"]["seconds"] == pytest.approx(16)
    assert report["summary"]["channels"]["2"] == {"files": 1, "seconds": 2.0}
    for stage, metas in resolve_stage_metas(good).items():  # the split is training's
        paths = [file["path"] for file in report["files"] if stage in file["stages"]]
        assert paths == [meta.path for meta in metas]
        assert report["summary"]["stages"][stage]["files"] == len(paths)


def test_manifest(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metas = scan(good, progress=False).files
    path = tmp_path / "files.jsonl"
    save_manifest(path, metas)
    assert as_json(capsys, path)[0] == 0
    wrong = AudioMeta(metas[0].path, 60.0, metas[0].sample_rate)
    save_manifest(path, [wrong, *metas[1:], AudioMeta(str(good / "gone.wav"), 1.0, 8000)])
    status, report = as_json(capsys, path)
    name = os.path.basename(wrong.path)
    assert status == 1
    assert files_of(report) == {"unreadable": [{"gone.wav"}], "manifest": [{name}]}


def test_copies_and_leaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy has the same rate and samples, in whatever format."""
    rate = nasty.RATE
    waves = {seed: (nasty.sound(seed) * 30_000).astype(np.int16) for seed in range(25)}
    for seed, wave in waves.items():
        soundfile.write(tmp_path / f"{seed}.wav", wave, rate)
        soundfile.write(tmp_path / f"{seed}.flac", wave, rate)
    floats = waves[0][:, 0] / np.float32(32768)
    floats[floats == 0] = -0.0
    soundfile.write(tmp_path / "0 as float.wav", floats, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "0 in stereo.wav", np.stack([floats, floats], 1), rate)
    soundfile.write(tmp_path / "0 faster.wav", floats, 2 * rate)
    _, report = as_json(capsys, tmp_path)
    stages = {Path(file["path"]).name: file["stages"] for file in report["files"]}
    pairs = [{f"{seed}.wav", f"{seed}.flac"} for seed in waves]
    pairs[0].add("0 as float.wav")
    problems = files_of(report)
    assert sorted(problems["copies"], key=sorted) == sorted(pairs, key=sorted)
    crossing = [pair for pair in pairs if len({"train" in stages[name] for name in pair}) == 2]
    assert crossing and sorted(problems["leak"], key=sorted) == sorted(crossing, key=sorted)


def test_small_folders_and_wrong_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path)]) == 2
    assert "no audio file in the folder; others: 0" in capsys.readouterr().err
    soundfile.write(tmp_path / "a.wav", nasty.sound(1), nasty.RATE)
    status, report = as_json(capsys, tmp_path)
    assert status == 1 and files_of(report) == {"few files": [{"a.wav"}]}
    (tmp_path / "a.wav").write_bytes(b"")
    status, report = as_json(capsys, tmp_path)
    assert status == 1 and files_of(report) == {"empty file": [{"a.wav"}]}
    assert report["files"] == [] and report["summary"]["silence"] == 0
    assert main(["doctor", str(tmp_path)]) == 1
