import gzip
import json
import os
from pathlib import Path

import pytest

from adversarial_trainer.data import (
    AudioMeta,
    load_manifest,
    load_source,
    resolve_stage_metas,
    save_manifest,
)

# Lines as AudioCraft's `python -m audiocraft.data.audio_dataset` writes them.
AUDIOCRAFT = [
    {"path": "/data/a.mp3", "duration": 12.5, "sample_rate": 44100, "amplitude": None,
     "weight": None, "info_path": None},
    {"path": "sub/b.wav", "duration": 3, "sample_rate": 16000, "amplitude": 0.5, "weight": 2.0,
     "info_path": "sub/b.json", "channels": 1, "my_own": {"x": [1]}},
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_audiocraft_manifests_load_as_they_are(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    text = "\n".join(json.dumps(line) for line in AUDIOCRAFT) + "\n\n"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    first, second = load_manifest(path)
    assert first == AudioMeta("/data/a.mp3", 12.5, 44100)
    folder = str(tmp_path)
    assert second == AudioMeta(f"{folder}/sub/b.wav", 3.0, 16000, 0.5, 2.0, f"{folder}/sub/b.json")
    metas = [
        AudioMeta("/x/名\n.wav", 1.5, 24000, 0.25, 0.0, "/x/i.json"),
        AudioMeta(os.fsdecode(b"/x/\xff.wav"), 1 / 3, 8000),
    ]
    save_manifest(path, metas)
    assert load_manifest(path) == metas
    before = path.read_bytes()
    save_manifest(path, metas)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    text = (gzip.decompress(before) if suffix.endswith("gz") else before).decode()
    assert json.loads(text.splitlines()[0]).keys() == AUDIOCRAFT[0].keys()


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "not JSON"),
        ("[]", "expected an object, got list"),
        ("{}", "'path'.*required"),
        ('{"path": "a", "duration": "x", "sample_rate": 2}', "'duration'.*got 'x'"),
        ('{"path": "a", "duration": 0, "sample_rate": 2}', "'duration'"),
        ('{"path": "a", "duration": 1, "sample_rate": 2.5}', "'sample_rate'.*got 2.5"),
        ('{"path": "a", "duration": 1, "sample_rate": 2, "weight": -1}', "'weight'.*-1"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(AUDIOCRAFT[0]) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=rf"^manifest=.*bad\.jsonl:2: .*{message}"):
        load_manifest(path)


def test_relative_paths_and_folders_as_in_audiocraft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Paths count from the manifest's folder, or from the working directory; those that are missing
    are named before anything else happens."""
    folder, here = tmp_path / "egs", tmp_path / "here"
    for place in (folder / "beside.wav", here / "data" / "below.wav"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    monkeypatch.chdir(here)
    names = ["beside.wav", "data/below.wav", "gone.wav", "data\\below.wav"]
    lines = [{"path": name, "duration": 1, "sample_rate": 8000} for name in names]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = [str(folder / "beside.wav"), str(here / "data" / "below.wav")]
    for source, name in ((folder, "dset.path"), (folder / "data.jsonl", "dset.manifest")):
        assert [meta.path for meta in load_source(source, name=name)] == found
        assert f"{name}='{source}': 2 of 4 files are missing and left out" in caplog.text
    assert [meta.path for meta in load_manifest(folder)][2] == str(folder / "gone.wav")
    for path in map(Path, found):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"stages\.valid=.*4 of 4 files are missing, as "):
        resolve_stage_metas(folder, stages={"valid": folder})
    with pytest.raises(ValueError, match="is a folder with a data.jsonl"):
        load_source(here, name="dset.manifest")


def test_bad_manifest_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dset\.manifest='.*nowhere\.jsonl'"):
        load_manifest(tmp_path / "nowhere.jsonl", "dset.manifest")
    whole = gzip.compress((json.dumps(AUDIOCRAFT[0]) + "\n").encode() * 1000)
    for name, content, message in (
        ("empty.jsonl", b"\n", "no entries"),
        ("a.json", b"{}", r"\.jsonl or \.jsonl\.gz"),
        ("a.jsonl.gz", b"no gzip", "broken gzip"),
        ("a.jsonl.gz", whole[: len(whole) // 2], "broken gzip"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_manifest(tmp_path / name)
