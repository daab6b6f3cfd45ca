import os
from pathlib import Path

import numpy as np
import pytest
import torch

from adversarial_trainer import audio
from adversarial_trainer.data import AudioMeta, FileDataset, SegmentDataset, scan

RATE = 24_000


def make(path: Path, seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    wav = torch.rand(channels, round(seconds * rate), generator=generator) - 0.5
    audio.write(path, wav, rate)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "a.wav", 3.0, 44_100, 2, 1)
    make(tmp_path / "b.flac", 2.0, 24_000, 1, 2)
    make(tmp_path / "c.ogg", 2.5, 48_000, 2, 3)
    make(tmp_path / "d.mp3", 3.0, 16_000, 1, 4)
    make(tmp_path / "e.wav", 0.2, 44_100, 1, 5)
    make(tmp_path / "f.wav", 2.0, 22_051, 1, 6)  # no small kernel from this rate
    return tmp_path


def read(path: str | Path, channels: int = 1) -> torch.Tensor:
    wav, rate = audio.read(path)
    return audio.convert(wav, rate, RATE, channels)


@pytest.mark.parametrize("channels", [1, 2])
def test_segments_are_slices_of_the_converted_file(folder: Path, channels: int) -> None:
    dataset = SegmentDataset(scan(folder, progress=False).files, 0.5, RATE, channels)
    wholes = {str(path): read(path, channels) for path in folder.iterdir()}
    starts: dict[str, set[int]] = {}
    for index in range(150):
        wav, info = dataset[3, index]
        assert wav.shape == (channels, 12_000) and wav.dtype == torch.float32
        whole, start = wholes[info.path], round(info.start * RATE)
        starts.setdefault(info.path, set()).add(start)
        expected = whole[:, start : start + 12_000]
        torch.testing.assert_close(wav[:, : expected.shape[1]], expected, atol=1e-5, rtol=0)
        assert info.pad == 12_000 - expected.shape[1]
        assert torch.equal(wav[:, expected.shape[1] :], torch.zeros(channels, info.pad))
        assert (info.epoch, info.index, info.skipped) == (3, index, ())
    assert starts.keys() == wholes.keys()
    assert starts.pop(str(folder / "e.wav")) == {0}  # shorter than a segment
    assert all(len(s) > 3 for s in starts.values())


def segments(dataset: SegmentDataset, epoch: int, count: int) -> list[tuple[str, float]]:
    infos = [dataset[epoch, index][1] for index in range(count)]
    return [(info.path, info.start) for info in infos]


def test_seed_epoch_and_index_never_collide(folder: Path) -> None:
    """In AudioCraft (epoch, seed) pairs collide."""
    metas = [AudioMeta(str(folder / "a.wav"), 3.0, 44_100)]
    seen = set()
    values = (0, 1, 2**32, 2**63)
    for seed in values:
        dataset = SegmentDataset(metas, 0.01, RATE, 1, seed=seed)
        for epoch in values:
            seen.add(tuple(segments(dataset, epoch, 6)))
            first = dataset[epoch, 2**40][1].start, dataset[epoch, 0][1].start
            assert first[0] != first[1]
    assert len(seen) == len(values) ** 2


def test_draw_follows_duration_and_weight(tmp_path: Path) -> None:
    plan = [("a", 1.0, None), ("b", 3.0, 1.0), ("c", 2.0, 2.0), ("d", 2.0, 0.0)]
    metas = []
    for name, seconds, weight in plan:
        make(tmp_path / f"{name}.wav", seconds)
        metas.append(AudioMeta(str(tmp_path / f"{name}.wav"), seconds, RATE, weight=weight))
    drawn = segments(SegmentDataset(metas, 0.01, RATE, 1), 0, 2000)
    for (name, *_), expected in zip(plan, (1 / 8, 3 / 8, 4 / 8, 0), strict=True):
        count = sum(os.path.basename(path)[0] == name for path, _ in drawn)
        assert count / 2000 == pytest.approx(expected, abs=0.04)
    # Positions are even over the file, its last segment included.
    positions = [start for path, start in drawn if path.endswith("b.wav")]
    quarters = np.histogram(positions, 4, (0, 2.99))[0] / len(positions)
    assert quarters == pytest.approx(0.25, abs=0.07)


def test_a_file_that_breaks_later_is_skipped(tmp_path: Path) -> None:
    for name in "abc":
        make(tmp_path / f"{name}.flac", 3.0, seed=ord(name))
    dataset = SegmentDataset(scan(tmp_path, progress=False).files, 0.5, RATE, 1)
    before = [dataset[0, index] for index in range(60)]
    broken = tmp_path / "b.flac"
    broken.unlink()
    after = [dataset[0, index] for index in range(60)]
    make(broken, 0.25)
    shorter = [dataset[0, index] for index in range(60)]
    assert sum(info.path == str(broken) for _, info in before) > 5
    for (wav, info), (other, other_info), (_, short_info) in zip(
        before, after, shorter, strict=True
    ):
        if info.path != str(broken):  # others do not notice
            assert torch.equal(other, wav) and other_info == short_info == info
        else:
            assert other_info.path == short_info.path != str(broken)
            assert other_info.skipped == ((str(broken), "No such file or directory"),)
            assert "not the file that was listed" in short_info.skipped[0][1]
    for name in "abc":
        (tmp_path / f"{name}.flac").unlink()
    with pytest.raises(RuntimeError, match="epoch 4, item 7") as error:
        dataset[4, 7]
    assert str(error.value).count("No such file") == 3
    with pytest.raises(ValueError, match="none of 0 files"):
        SegmentDataset([], 1.0, RATE, 1)


def test_whole_files(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    metas = scan(folder, progress=False).files
    dataset = FileDataset(metas, RATE, 1)
    limited = FileDataset(metas, RATE, 1, max_duration=0.3)
    assert len(dataset) == len(metas) == 6
    for index, meta in enumerate(metas):
        whole, whole_meta = dataset[index]
        assert whole_meta is meta and torch.equal(whole, read(meta.path))
        short, _ = limited[index]
        assert short.shape[1] == min(7200, whole.shape[1])
        torch.testing.assert_close(short, whole[:, :7200], atol=1e-5, rtol=0)
    os.unlink(metas[1].path)
    with pytest.raises(FileNotFoundError):
        dataset[1]
    assert [index for index, _, _ in dataset.readable()] == [0, 2, 3, 4, 5]
    assert [index for index, _, _ in dataset.readable(range(1, 6, 2))] == [3, 5]
    assert dataset.skips.counts == {metas[1].path: 2} and caplog.text.count("left out") == 1
