import gzip
import json
import os
from pathlib import Path

import pytest

from adversarial_trainer.data import AudioMeta, load_manifest, save_manifest

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
        ("{}", "'path'.*got nothing"),
        ('{"path": "a", "duration": "1", "sample_rate": 2}', "'duration'.*got '1'"),
        ('{"path": "a", "duration": 0, "sample_rate": 2}', "'duration'"),
        ('{"path": "a", "duration": 1, "sample_rate": 2.5}', "'sample_rate'.*got 2.5"),
        ('{"path": "a", "duration": 1, "sample_rate": 2, "weight": -1}', "'weight'.*-1"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(AUDIOCRAFT[0]) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=rf"bad\.jsonl:2: .*{message}"):
        load_manifest(path)


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
