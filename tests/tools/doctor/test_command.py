"""The command line, on folders good, bad and empty."""

import json
import os
from pathlib import Path
from typing import Any

import nasty
import pytest
import soundfile

from adversarial_trainer.cli import main
from adversarial_trainer.data import AudioMeta, resolve_stage_metas, save_manifest, scan
from adversarial_trainer.data.demo import build
from adversarial_trainer.tools.doctor.formatting import SHOWN


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nasty.Expected]:
    root = tmp_path_factory.mktemp("doctor") / "bad"
    return root, nasty.make(root)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("doctor") / "good", files=8, duration=2.0, progress=False)


def snapshot(root: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.lstat().st_mtime_ns) for p in root.rglob("*"))


def as_json(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    status = main(["doctor", "--json", *argv])
    return status, json.loads(capsys.readouterr().out)


def test_bad_folder(bad: tuple[Path, nasty.Expected], capsys: pytest.CaptureFixture[str]) -> None:
    root, expected = bad
    before = snapshot(root.parent)
    status, report = as_json(capsys, str(root), "--workers", "2")
    assert status == 1 and snapshot(root.parent) == before  # nothing is written
    kinds = {os.path.relpath(file["path"], root): nasty.USABLE for file in report["files"]}
    kinds |= {os.path.relpath(file["path"], root): file["kind"] for file in report["skipped"]}
    assert kinds == expected
    assert report["summary"]["skipped"] == sum(kind != nasty.USABLE for kind in expected.values())
    problems = {problem["kind"]: problem for problem in report["problems"]}
    named = {os.path.relpath(p, root): k for k, problem in problems.items()
             for item in problem["items"] for p in item["files"]}  # fmt: skip
    # Each that is left out is in a problem, but for links, which do no harm.
    for name, kind in expected.items():
        assert (name in named) or kind in (nasty.USABLE, nasty.LINK), name
    assert {"not_finite", "truncated", "unreadable", "out_of_range", "empty"} <= problems.keys()
    assert named["dc_offset.wav"] == "offset" and named["zero_padded.wav"] == "silence"
    assert problems["clipped"]["items"][0]["files"] == [str(root / "clipped.wav")]
    assert all(problem["advice"] for problem in report["problems"])


def test_report_for_people(
    bad: tuple[Path, nasty.Expected], capsys: pytest.CaptureFixture[str]
) -> None:
    root, expected = bad
    assert main(["doctor", str(root)]) == 1
    text = capsys.readouterr().out
    bad_count = sum(kind not in (nasty.USABLE, nasty.LINK) for kind in expected.values())
    assert f"{bad_count} left out; 2 more names" in text
    unreadable = sum(kind == nasty.UNREADABLE for kind in expected.values())
    assert f"left out: unreadable ({unreadable})" in text
    assert f"... and {unreadable - SHOWN} more; --json has all" in text
    assert text.index("unreadable (") < text.index("clipped") < text.index("Summary")
    # Names cannot write to the terminal.
    assert all(line.isprintable() for line in text.split("\n"))


def test_good_folder(good: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", str(good)]) == 0 and "No issues found" in capsys.readouterr().out
    status, report = as_json(capsys, str(good))
    assert status == 0 and report["problems"] == [] and report["version"] == 3
    assert report["summary"]["seconds"] == pytest.approx(16)
    assert report["summary"]["channels"]["2"] == {"files": 1, "seconds": 2.0}
    # The split is the one that training makes.
    metas = resolve_stage_metas(good)
    for stage, files in metas.items():
        paths = [file["path"] for file in report["files"] if stage in file["stages"]]
        assert paths == [meta.path for meta in files]
        assert report["split"][stage]["files"] == len(files)
    _, report = as_json(capsys, str(good), "--shares", "train=1,evaluate=1")
    assert report["split"]["valid"] == {"share": 0, "files": 0, "seconds": 0}
    assert report["split"]["evaluate"]["files"] > 1


def test_manifest(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metas = scan(good, progress=False).files
    path = tmp_path / "files.jsonl"
    save_manifest(path, metas)
    assert as_json(capsys, str(path))[0] == 0
    wrong = [AudioMeta(metas[0].path, 60.0, metas[0].sample_rate), *metas[1:]]
    save_manifest(path, [*wrong, AudioMeta(str(good / "gone.wav"), 1.0, 8000)])
    status, report = as_json(capsys, str(path))
    assert status == 1
    assert {p["kind"]: p["items"][0]["files"] for p in report["problems"]} == {
        "unreadable": [str(good / "gone.wav")], "manifest": [metas[0].path],
    }  # fmt: skip


def test_small_folders_share_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", nasty.sound(1), nasty.RATE)
    status, report = as_json(capsys, str(tmp_path))
    assert status == 1 and [p["kind"] for p in report["problems"]] == ["few_files"]
    (tmp_path / "a.wav").write_bytes(b"")
    status, report = as_json(capsys, str(tmp_path))
    assert status == 1 and [p["kind"] for p in report["problems"]] == ["empty"]
    assert report["files"] == [] and report["summary"]["silence"] == 0
    assert main(["doctor", str(tmp_path)]) == 1


def test_wrong_calls(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("")
    for argv, said in [
        ((tmp_path / "nowhere",), b"no such folder"),
        ((tmp_path,), b"no audio file in the folder, but 1 others (.txt)"),
        ((tmp_path / "notes.txt",), b"a file; give a folder"),
        ((good, "--shares", "train=x"), b"STAGE=NUMBER"),
        ((good, "--shares", "trian=1"), b"Unknown stage 'trian'"),
        ((good, "--workers", "0"), b"at least 1"),
        ((), b"FOLDER"),
    ]:
        try:
            status: object = main(["doctor", *map(str, argv)])
        except SystemExit as error:  # argparse's own
            status = error.code
        out, err = capsys.readouterr()
        assert (status, out) == (2, ""), argv
        assert said.decode() in err, (argv, err)
