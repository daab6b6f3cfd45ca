"""A folder of bad audio: each file is named with its reason, and training goes on with the rest."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nasty
import numpy as np
import pytest
import soundfile

from adversarial_trainer.data import ScanReport, SegmentDataset, TrainBatches, scan


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, nasty.Expected]]:
    root = tmp_path_factory.mktemp("nasty") / "audio"
    yield root, nasty.make(root)


def found(report: ScanReport, root: Path) -> dict[str, str]:
    kinds = {os.path.relpath(meta.path, root): nasty.USABLE for meta in report.files}
    skipped = {os.path.relpath(skipped.path, root): skipped.kind for skipped in report.skipped}
    assert not kinds.keys() & skipped.keys()
    return kinds | skipped


def test_each_file_is_counted_and_named_with_its_reason(
    folder: tuple[Path, nasty.Expected], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, expected = folder
    assert len(expected) >= 100
    before = sorted(os.listdir(root))
    with caplog.at_level(logging.INFO):
        report = scan(root, tmp_path, progress=False)
    assert found(report, root) == expected
    bad = {name: kind for name, kind in expected.items() if kind != nasty.USABLE}
    (path,) = tmp_path.glob("*.skipped.jsonl")
    lines = list(map(json.loads, path.read_text().splitlines()))
    assert len(lines) == len(bad)
    for name, kind in bad.items():
        (reason,) = [line["reason"] for line in lines if line["path"] == str(root / name)]
        assert reason.startswith(kind)
    assert f"{len(report.files)} usable files" in caplog.text
    assert f"; {len(bad)} skipped (" in caplog.text and f"; see {path}" in caplog.text
    assert scan(root, tmp_path, workers=1, progress=False) == report
    assert sorted(os.listdir(root)) == before


def test_memory_is_that_of_what_is_there(folder: tuple[Path, nasty.Expected]) -> None:
    """Headers here declare gigabytes, 1024 channels and 2^36 samples."""
    code = (
        "import nasty, sys; from adversarial_trainer.data import scan\n"
        "before = nasty.peak_memory(); scan(sys.argv[1], workers=2, progress=False)\n"
        "print(nasty.peak_memory() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder[0]],
        capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(nasty.__file__).parent)},
    )  # fmt: skip
    assert int(done.stdout) < 50


HARMS = ("deleted", "cut", "nan", "other", "fifo")


def harm(path: Path, kind: str) -> None:
    """Break a file, as a whole, the way a person or a program would."""
    content, name = path.read_bytes(), os.fsencode(path)
    path.unlink()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 3])
    elif kind == "nan":
        soundfile.write(name, np.full(nasty.LENGTH, np.nan), nasty.RATE, "FLOAT", format="WAV")
    elif kind == "other":  # still audio, but nothing is as it was
        soundfile.write(name, nasty.sound(999, 7000, channels=5), 11_025, format="FLAC")
    elif kind == "fifo":
        os.mkfifo(path)


def test_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Files are deleted, cut and exchanged while the epoch runs."""
    nasty.make(tmp_path / "audio")
    metas = scan(tmp_path / "audio", progress=False).files
    batches = TrainBatches(SegmentDataset(metas, 0.25, 16_000, 1), 4, 40, num_workers=2)
    kinds = {meta.path: HARMS[number % len(HARMS)] for number, meta in enumerate(metas[:60:3])}
    skipped = 0
    for number, batch in enumerate(batches):
        if number == 2:
            for path, kind in kinds.items():
                harm(Path(path), kind)
        assert batch.wav.shape == (4, 1, 4000) and batch.wav.isfinite().all()
        skipped += sum(len(info.skipped) for info in batch.infos)
    batches.close()
    assert number == 39 and batches.skips.total == skipped > 5
    # Each is named once, with a reason that fits.
    reasons = {"deleted": "No such file", "nan": "NaN or Inf", "fifo": "regular", "other": "listed"}
    for path in batches.skips.counts:
        (line,) = [r.message for r in caplog.records if r.message.startswith(f"{path!r} is left")]
        assert reasons.get(kinds[path], "") in line
    assert {kinds[path] for path in batches.skips.counts} >= reasons.keys() - {"other"}
