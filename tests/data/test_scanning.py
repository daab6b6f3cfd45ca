import logging
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from adversarial_trainer import audio
from adversarial_trainer.data import load_manifest, scan, scanning

RATE = 24_000


def noise(seconds: float, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(channels, round(seconds * RATE), generator=generator) - 0.5


def touch(folder: Path, *names: str) -> None:
    for name in names:
        audio.write(folder / name, noise(0.1), RATE)


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """A folder of good and bad files; the reason each bad one is left out is in its name."""
    root = tmp_path / "audio"
    touch(root, "good.wav", "sub/good.flac", "good two.ogg", "good\nnewline.wav", "good_名.wav")
    touch(root, os.fsdecode(b"good_\xff.wav"), "GOOD.WAV")
    touch(root, "good.mp3")
    # Without its Xing header an mp3's length is not known before it is decoded.
    whole = (root / "good.mp3").read_bytes()
    (root / "good_cut.mp3").write_bytes(whole[len(whole) // 2 :])
    audio.write(root / "good_8.wav", noise(0.1, 8), 48_000)
    audio.write(root / "good_96.wav", noise(0.1), 96_000, subtype="PCM_24")
    audio.write(root / "good_float.wav", 4 * noise(0.1), RATE, subtype="FLOAT")
    wav = (root / "good.wav").read_bytes()
    (root / "empty file.wav").write_bytes(b"")
    (root / "truncated.wav").write_bytes(wav[:44])
    (root / "unreadable.wav").write_text("I am a letter")
    (root / "unreadable 2.wav").write_bytes(wav[:20])
    (root / "unreadable 3.flac").write_bytes(np.random.default_rng(0).bytes(5000))
    (root / "unreadable 4.wav").symlink_to("unreadable 4.wav")
    (root / "unreadable 5.wav").symlink_to("/nowhere")
    audio.write(root / "long.flac", noise(20), RATE)
    flac = (root / "long.flac").read_bytes()
    (root / "long.flac").unlink()
    (root / "unreadable 6.flac").write_bytes(flac[: len(flac) // 2])
    for name, value in (("NaN or Inf samples", np.nan), ("NaN or Inf samples 2", np.inf)):
        data = np.ones(3000, np.float32) * 0.1
        data[1234] = value
        soundfile.write(root / f"{name}.wav", data, RATE, subtype="FLOAT")
    audio.write(root / "silent.wav", torch.zeros(1, 3000), RATE)
    audio.write(root / "silent 2.wav", torch.full((2, 3000), 0.25), RATE)
    audio.write(root / "too short.wav", torch.ones(1, 1) * 0.5, RATE)
    audio.write(root / "odd sample rate.wav", noise(0.1), 100)
    (root / "second name of a file.wav").symlink_to("good.wav")
    os.link(root / "good.wav", root / "second name of a file 2.wav")
    (root / "loop").symlink_to(root)
    (root / "sub" / "loop").symlink_to("..")
    os.mkfifo(root / "not a regular file.wav")
    (root / "unsupported format.m4a").write_bytes(b"1")
    (root / "notes.txt").write_text("no audio")
    return root


def test_nasty_folder(nasty: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        report = scan(nasty, tmp_path / "cache", progress=False)
    names = [os.path.basename(meta.path) for meta in report.files]
    good = [p for p in nasty.rglob("*") if p.name.lower().startswith("good") and p.is_file()]
    assert sorted(names) == sorted(p.name for p in good if "loop" not in p.parts)
    assert [meta.path for meta in report.files] == sorted(meta.path for meta in report.files)
    for path, reason in report.skipped:
        assert os.path.basename(path).startswith(reason.partition(":")[0]), (path, reason)
    bad = [p for p in nasty.iterdir() if not p.name.lower().startswith("good") and not p.is_dir()]
    assert {path for path, _ in report.skipped} == {str(p) for p in bad} - {f"{nasty}/notes.txt"}
    # Counted in the log, named in the report; nothing is written beside the audio.
    assert f"{len(report.skipped)} skipped (" in caplog.text and "6 unreadable" in caplog.text
    assert report.report_path is not None and str(report.report_path) in caplog.text
    lines = report.report_path.read_text().splitlines()
    assert len(lines) == len(report.skipped)
    # The cache is an AudioCraft manifest.
    assert load_manifest(scanning.cache_path(nasty, tmp_path / "cache")) == report.files


def test_values(tmp_path: Path) -> None:
    touch(tmp_path, "b.wav")
    wav = torch.zeros(2, 48_000)
    wav[1, 7] = -0.75
    audio.write(tmp_path / "a.flac", wav, 48_000)
    first, second = scan(tmp_path, progress=False).files
    assert (first.path, first.duration, first.sample_rate, first.amplitude) == (
        str(tmp_path / "a.flac"), 1.0, 48_000, 0.75,
    )  # fmt: skip
    assert second.duration == pytest.approx(0.1)


def test_same_result_for_any_number_of_workers(nasty: Path) -> None:
    assert scan(nasty, workers=1, progress=False) == scan(nasty, workers=8, progress=False)


def test_cache_notices_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = tmp_path / "audio", tmp_path / "cache"
    touch(root, "a.wav", "b.wav", "c.wav")
    (root / "d.wav").write_bytes(b"")
    checked: list[str] = []
    original = scanning.check

    def check(path: str) -> object:
        checked.append(os.path.basename(path))
        return original(path)

    monkeypatch.setattr(scanning, "check", check)

    def rescan() -> tuple[list[str], list[str]]:
        checked.clear()
        report = scan(root, cache, progress=False)
        return sorted(checked), [os.path.basename(meta.path) for meta in report.files]

    assert rescan() == (["a.wav", "b.wav", "c.wav", "d.wav"], ["a.wav", "b.wav", "c.wav"])
    assert rescan() == ([], ["a.wav", "b.wav", "c.wav"])
    touch(root, "e.wav")
    (root / "a.wav").unlink()
    audio.write(root / "b.wav", torch.zeros(1, 2400), RATE)  # same size, now silent
    assert rescan() == (["b.wav", "e.wav"], ["c.wav", "e.wav"])
    assert rescan() == ([], ["c.wav", "e.wav"])
    manifest = scanning.cache_path(root, cache)
    manifest.write_text(manifest.read_text()[:-20])
    assert rescan() == (["b.wav", "c.wav", "d.wav", "e.wav"], ["c.wav", "e.wav"])
    assert sorted(p.name for p in root.iterdir()) == ["b.wav", "c.wav", "d.wav", "e.wav"]


def test_interrupted_scan_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = tmp_path / "audio", tmp_path / "cache"
    touch(root, "a.wav", "b.wav", "c.wav")
    original = scanning.check

    def stop(path: str) -> object:
        if path.endswith("c.wav"):
            raise KeyboardInterrupt
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(scanning, "check", stop)
        with pytest.raises(KeyboardInterrupt):
            scan(root, cache, workers=1, progress=False)
    report = scan(root, cache, progress=False)
    assert len(report.files) == 3 and report.reused == 2


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dset\.path='/nowhere'"):
        scan("/nowhere")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ValueError, match=r"dset\.path='.*no audio file.*1 others.*\.flac"):
        scan(tmp_path)
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"")
    audio.write(tmp_path / "c.wav", torch.zeros(1, 3000), RATE)
    with pytest.raises(ValueError, match="none of 3 audio files.*2 empty file, 1 silent"):
        scan(tmp_path, progress=False)
    with pytest.raises(ValueError, match="a file"):
        scan(tmp_path / "c.wav")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permissions(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav", "closed/c.wav")
    (tmp_path / "b.wav").chmod(0)
    (tmp_path / "closed").chmod(0)
    cache = tmp_path / "cache"
    report = scan(tmp_path, cache, progress=False)
    (tmp_path / "closed").chmod(0o755)
    assert [skipped.reason for skipped in report.skipped] == [
        "unreadable: permission denied", "folder cannot be listed: Permission denied",
    ]  # fmt: skip
    (tmp_path / "b.wav").chmod(0o644)
    assert len(scan(tmp_path, cache, progress=False).files) == 3
