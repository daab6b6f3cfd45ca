"""Copies, and copies on both sides of the split."""

from pathlib import Path

import nasty
import numpy as np
import soundfile

from adversarial_trainer.tools.doctor import AudioFile, examine


def names(groups: list[list[AudioFile]]) -> list[set[str]]:
    return [{Path(file.path).name for file in group} for group in groups]


def test_same_samples_in_other_files(tmp_path: Path) -> None:
    wave, rate = (nasty.sound(1) * 30_000).astype(np.int16)[:, 0], nasty.RATE
    wave[1000:1010] = 0
    floats = (wave / 32768).astype(np.float32)
    floats[1000:1010] = -0.0
    soundfile.write(tmp_path / "0.wav", floats, rate, subtype="FLOAT")
    for name in ("a.wav", "b.flac", "c.aiff", "d.wav"):
        soundfile.write(tmp_path / name, wave, rate)
    soundfile.write(tmp_path / "e.wav", np.stack([wave, wave], 1), rate)
    soundfile.write(tmp_path / "f.wav", wave, 2 * rate)  # twice as fast is another recording
    for name in ("x.wav", "y.wav"):
        soundfile.write(tmp_path / name, nasty.sound(2), rate)
    report = examine(tmp_path, progress=False)
    assert names(report.copies) == [
        {"0.wav", "a.wav", "b.flac", "c.aiff", "d.wav"}, {"x.wav", "y.wav"},
    ]  # fmt: skip


def test_leaks_are_copies_on_both_sides_of_the_split(tmp_path: Path) -> None:
    for seed in range(12):
        wave = (nasty.sound(seed) * 30_000).astype(np.int16)
        for suffix in ("wav", "flac"):
            soundfile.write(tmp_path / f"{seed:02d}.{suffix}", wave, nasty.RATE)
    report = examine(tmp_path, {"train": 1, "evaluate": 1}, progress=False)
    stages = {Path(file.path).name: file.stages for file in report.files}
    pairs = [{f"{seed:02d}.wav", f"{seed:02d}.flac"} for seed in range(12)]
    crossing = [pair for pair in pairs if len({stages[name] for name in pair}) == 2]
    assert names(report.copies) == pairs
    assert 2 <= len(crossing) < 12 and names(report.leaks) == crossing
