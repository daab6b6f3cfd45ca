import os
from pathlib import Path

import pytest
import torch

from adversarial_trainer import audio
from adversarial_trainer.data import load_manifest, scan, scanning

RATE = 24_000


def touch(folder: Path, *names: str) -> None:
    wav = torch.rand(1, 2400, generator=torch.Generator().manual_seed(0)) - 0.5
    for name in names:
        audio.write(folder / name, wav, RATE)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded."""
    names: list[str] = []
    original = scanning.check

    def check(path: str) -> object:
        names.append(os.path.basename(path))
        if path.endswith("stop.wav"):
            raise KeyboardInterrupt
        return original(path)

    monkeypatch.setattr(scanning, "check", check)
    return names


def test_cache_notices_what_changed(tmp_path: Path, checked: list[str]) -> None:
    root, cache = tmp_path / "audio", tmp_path / "cache"
    touch(root, "a.wav", "b.wav", "c.wav")
    (root / "d.wav").write_bytes(b"")

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
    manifest = scanning.cache_path(root, cache)  # AudioCraft's format
    assert [os.path.basename(meta.path) for meta in load_manifest(manifest)] == ["c.wav", "e.wav"]
    manifest.write_text(manifest.read_text()[:-20])
    assert rescan() == (["b.wav", "c.wav", "d.wav", "e.wav"], ["c.wav", "e.wav"])
    assert sorted(p.name for p in root.iterdir()) == ["b.wav", "c.wav", "d.wav", "e.wav"]


def test_interrupted_scan_goes_on(tmp_path: Path, checked: list[str]) -> None:
    root, cache = tmp_path / "audio", tmp_path / "cache"
    touch(root, "a.wav", "b.wav", "stop.wav")
    with pytest.raises(KeyboardInterrupt):
        scan(root, cache, workers=1, progress=False)
    (root / "stop.wav").rename(root / "z.wav")
    checked.clear()
    assert len(scan(root, cache, progress=False).files) == 3 and checked == ["z.wav"]


def test_values_and_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dset\.path='/nowhere'"):
        scan("/nowhere")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ValueError, match=r"dset\.path='.*no audio file.*others: 1.*\.flac"):
        scan(tmp_path)
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"")
    audio.write(tmp_path / "c.wav", torch.zeros(1, 3000), RATE)
    with pytest.raises(ValueError, match="none of 3 audio files.*2 empty file, 1 silent"):
        scan(tmp_path, progress=False)
    with pytest.raises(ValueError, match="a file; give a folder"):
        scan(tmp_path / "c.wav")
    wav = torch.zeros(2, 48_000)
    wav[1, 7] = -0.75
    audio.write(tmp_path / "d.flac", wav, 48_000)
    (meta,) = scan(tmp_path, progress=False).files
    assert (meta.path, meta.duration) == (str(tmp_path / "d.flac"), 1.0)
    assert (meta.sample_rate, meta.amplitude) == (48_000, 0.75)
