"""Copies of a recording are found whatever was done to them; others of its kind are not."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from adversarial_trainer.audio import resample
from adversarial_trainer.data import demo
from adversarial_trainer.tools.doctor import Diagnosis, diagnose
from adversarial_trainer.tools.doctor.duplicates import MIN_COMMON, connected, similar_pairs
from adversarial_trainer.tools.doctor.fingerprint import SKETCH, Fingerprinter
from adversarial_trainer.tools.doctor.spectrum import Frames

CORPUS = 24


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.build(
        tmp_path_factory.mktemp("doctor") / "demo", files=CORPUS, duration=6.0, progress=False
    )


def names(diagnosis: Diagnosis, groups: list[list[int]]) -> list[set[str]]:
    return [{Path(diagnosis.files[n].path).name for n in group} for group in groups]


def test_pieces_of_one_style_are_not_duplicates(corpus: Path) -> None:
    diagnosis = diagnose(corpus, progress=False)
    assert len(diagnosis.files) == CORPUS and diagnosis.not_compared == 0
    assert diagnosis.copies == diagnosis.similar == diagnosis.leaks == []


def processed(wave: np.ndarray, rate: int, how: str) -> tuple[np.ndarray, int, str]:
    random = np.random.default_rng(1)
    power = np.sqrt((wave**2).mean())
    if how == "gain":
        return 0.1 * wave, rate, "wav"
    if how == "noise":  # 30 dB below
        return wave + 0.03 * power * random.standard_normal(wave.shape), rate, "wav"
    if how == "trimmed":
        return wave[round(0.4567 * rate) : round(-0.3 * rate)], rate, "flac"
    if how == "padded":
        return np.pad(wave, ((round(0.7113 * rate), 5000), (0, 0))), rate, "wav"
    if how == "resampled":
        to = 22_050
        return resample(torch.from_numpy(wave.T.copy()), rate, to).numpy().T, to, "wav"
    if how == "all":
        return 0.3 * wave[round(0.3 * rate) :], rate, "mp3"
    return wave, rate, how


HOW = ["gain", "noise", "trimmed", "padded", "resampled", "mp3", "ogg", "all"]


@pytest.mark.parametrize("how", HOW)
def test_processed_copies_are_found(corpus: Path, tmp_path: Path, how: str) -> None:
    originals = sorted(corpus.rglob("*.wav"))[::2]
    for path in originals:
        wave, rate = soundfile.read(path, always_2d=True)
        (tmp_path / path.name).symlink_to(path)
        wave, rate, suffix = processed(wave, rate, how)
        soundfile.write(tmp_path / f"{path.stem}-copy.{suffix}", wave, rate)
    diagnosis = diagnose(tmp_path, progress=False)
    assert diagnosis.copies == []
    found = names(diagnosis, diagnosis.similar)
    assert all(len({name[: len("music_00")] for name in group}) == 1 for group in found)
    assert len(found) == len(originals)
    assert all(len(group) == 2 for group in found)


def test_same_samples_in_other_files(corpus: Path, tmp_path: Path) -> None:
    wave, rate = soundfile.read(corpus / "music/music_00.wav", dtype="int16")
    wave[1000:1010] = 0
    floats = (wave / 32768).astype(np.float32)
    floats[1000:1010] = -0.0
    soundfile.write(tmp_path / "0.wav", floats, rate, subtype="FLOAT")
    for name in ("a.wav", "b.flac", "c.aiff", "d.wav"):
        soundfile.write(tmp_path / name, wave, rate)
    soundfile.write(tmp_path / "e.wav", np.stack([wave, wave], 1), rate)  # similar
    soundfile.write(tmp_path / "f.wav", wave, 2 * rate)  # twice as fast is another recording
    other, rate = soundfile.read(corpus / "speech/speech_00.wav", dtype="int16")
    for name in ("x.wav", "y.wav"):
        soundfile.write(tmp_path / name, other, rate)
    diagnosis = diagnose(tmp_path, progress=False)
    assert names(diagnosis, diagnosis.copies) == [
        {"0.wav", "a.wav", "b.flac", "c.aiff", "d.wav"}, {"x.wav", "y.wav"},
    ]  # fmt: skip
    assert diagnosis.same_bytes == [False, True]
    assert names(diagnosis, diagnosis.similar) == [{"0.wav", "e.wav"}]


def test_leaks_are_groups_on_both_sides_of_the_split(corpus: Path, tmp_path: Path) -> None:
    for path in corpus.rglob("*.wav"):
        (tmp_path / path.name).symlink_to(path)
        wave, rate = soundfile.read(path)
        if path.name.startswith("music"):
            soundfile.write(tmp_path / f"{path.stem}.ogg", wave, rate)
    diagnosis = diagnose(tmp_path, {"train": 1, "evaluate": 1}, progress=False)
    stages = {Path(file.path).name: file.stages for file in diagnosis.files}
    pairs = {
        name: f"{name[:-3]}ogg" for name in stages if name.startswith("music") and "wav" in name
    }
    crossing = [{one, two} for one, two in sorted(pairs.items()) if stages[one] != stages[two]]
    assert 2 <= len(crossing) < len(pairs) == CORPUS // 2
    assert names(diagnosis, diagnosis.leaks) == crossing
    assert len(diagnosis.similar) == CORPUS // 2


def test_many_copies_of_one_recording_are_one_group() -> None:
    """More than a hash is compared with."""
    random = np.random.default_rng(0)
    hashes = np.sort(random.choice(2**32, 30, replace=False)).astype(np.uint32)
    times = np.arange(30, dtype=np.int32) * 7
    sketches = [(hashes, times + shift) for shift in range(60)]
    for _ in range(40):
        noise = np.sort(random.choice(2**32, 30, replace=False)).astype(np.uint32)
        sketches.append((noise, times))
    pairs = similar_pairs(sketches)
    assert len(pairs) < 60 * 10
    assert connected(len(sketches), pairs) == [list(range(60))]


def test_hashes_must_agree_on_one_shift() -> None:
    hashes = np.arange(100, dtype=np.uint32)
    times = np.arange(100, dtype=np.int32) * 50
    shuffled = np.random.default_rng(0).permutation(times)
    assert similar_pairs([(hashes, times), (hashes, shuffled)]) == []
    assert similar_pairs([(hashes, times), (hashes, times - 999)]) == [(0, 1)]
    few = MIN_COMMON - 1
    assert similar_pairs([(hashes[:few], times[:few]), (hashes, times)]) == []
    assert similar_pairs([]) == similar_pairs([(hashes, times)]) == []


def test_fingerprints_do_not_depend_on_blocks_nor_grow() -> None:
    rate = 24_000
    wave = demo.utterance(np.random.default_rng(3), rate, 1, 100 * rate)[0].astype(np.float32)
    sketches = []
    for block in (len(wave), 3001, 50_000):
        frames, fingerprinter = Frames(rate), Fingerprinter()
        for start in range(0, len(wave), block):
            for powers in frames.add(wave[start : start + block]):
                fingerprinter.add(powers)
        sketches.append(fingerprinter.sketch())
        held = sum(level.nbytes for level in fingerprinter._levels)
        assert held < 2_000_000 and len(fingerprinter._times) < 10
    for hashes, times in sketches:
        assert len(hashes) == SKETCH
        assert np.array_equal(hashes, sketches[0][0]) and np.array_equal(times, sketches[0][1])
        assert (np.diff(hashes.astype(np.int64)) > 0).all() and times.max() > 5000
